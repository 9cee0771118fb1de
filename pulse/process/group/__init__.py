"""Several processes of one `pulse up`: a supervisor, its members, and their metrics as one."""

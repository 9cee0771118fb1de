-- Record an applied revision.
INSERT INTO pulse_schema (revision, name, oldest_code) VALUES (%s, %s, %s)

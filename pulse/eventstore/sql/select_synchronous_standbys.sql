-- Which standbys confirm a commit. If empty, a commit waits for this server only.
SELECT current_setting('synchronous_standby_names')

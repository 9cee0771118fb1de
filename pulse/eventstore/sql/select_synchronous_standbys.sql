-- Which standbys confirm a commit. Empty: none, a commit is answered when this server alone has it.
SELECT current_setting('synchronous_standby_names')

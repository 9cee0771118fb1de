-- A revision that this database has from now on.
INSERT INTO pulse_schema (revision, name, oldest_code) VALUES (%s, %s, %s)

-- Store the names of the roles.
INSERT INTO pulse_roles (owner, runtime, reader) VALUES (%s, %s, %s)
    ON CONFLICT (only_row) DO UPDATE
   SET owner = EXCLUDED.owner, runtime = EXCLUDED.runtime, reader = EXCLUDED.reader

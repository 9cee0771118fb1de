-- How long the session's statements wait for a lock from now on.
SELECT pg_catalog.set_config('lock_timeout', %s, false)

-- Set how long the session's statements wait for a lock.
SELECT pg_catalog.set_config('lock_timeout', %s, false)

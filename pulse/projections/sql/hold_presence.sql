-- Hold a worker's presence lock until this connection ends. Postgres releases the lock when the
-- connection ends, and ends the connection when it has been idle for too long. The lock is shared,
-- so that two workers whose names have the same hash do not wait for each other.
SELECT set_config('idle_session_timeout', %s, false), pg_advisory_lock_shared(%s::integer, hashtext(%s))

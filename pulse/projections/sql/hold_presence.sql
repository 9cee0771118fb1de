-- Be present for as long as this connection lives: the server drops the lock the moment it sees the
-- connection end, and ends it when it has heard nothing of the worker for so long. Shared, so that two
-- workers whose names have one hash do not wait for each other.
SELECT set_config('idle_session_timeout', %s, false), pg_advisory_lock_shared(%s::integer, hashtext(%s))

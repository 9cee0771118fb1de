-- Be present for as long as this connection lives: the server drops the lock the moment it sees the
-- connection end. Shared, so that two workers whose names have one hash do not wait for each other.
SELECT pg_advisory_lock_shared(%s::integer, hashtext(%s))

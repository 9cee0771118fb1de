-- Takes the log's lock, then returns the last version of a stream, 0 if it has none. An append calls
-- it before it inserts, so the version is that of the last append of any process. It must be VOLATILE
-- and PL/pgSQL: a statement's snapshot is older than its lock and misses what the previous holder of
-- the lock committed, but each statement within such a function has a snapshot of its own.
CREATE FUNCTION lock_log(lock_key bigint, stream_id uuid) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(lock_key);
    RETURN COALESCE((SELECT max(s.originator_version)
                       FROM stored_events s
                      WHERE s.originator_id = stream_id), 0);
END
$$;

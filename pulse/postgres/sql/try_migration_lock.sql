-- Whether this session has taken the migration lock, which it holds until it ends.
SELECT pg_catalog.pg_try_advisory_lock(%s)

-- Whether this transaction has taken the migration lock.
SELECT pg_catalog.pg_try_advisory_xact_lock(%s)

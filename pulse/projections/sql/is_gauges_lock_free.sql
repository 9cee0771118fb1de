-- Whether no process holds the lock that elects the exporter of the gauges of the database. The
-- statement is a transaction, so the lock is released at its end.
SELECT pg_try_advisory_xact_lock(%s::bigint)

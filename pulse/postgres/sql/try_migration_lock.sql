-- Whether this transaction is now the one that migrates.
SELECT pg_catalog.pg_try_advisory_xact_lock(%s)

-- Lock the creation of roles until the transaction ends.
SELECT pg_catalog.pg_advisory_xact_lock(%s)

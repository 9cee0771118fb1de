-- Take the rebuild lock until the session ends; false if another rebuild is running.
SELECT pg_try_advisory_lock(%b::bigint)

-- Lock the history of the queue until the transaction ends. False if another process sums up a window.
SELECT pg_try_advisory_xact_lock(%b::bigint)

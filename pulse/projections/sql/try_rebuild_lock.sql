-- Whether no other rebuild runs: if so, none can begin while this session lasts.
SELECT pg_try_advisory_lock(%b::bigint)

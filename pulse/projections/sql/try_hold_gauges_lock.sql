-- Hold the lock that elects the process that exports the gauges of the database, until this
-- connection ends; false if another process holds it. Postgres ends the connection when it has been
-- idle for too long, so a frozen process loses the election.
SELECT set_config('idle_session_timeout', %s, false), pg_try_advisory_lock(%s::bigint)

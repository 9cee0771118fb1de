-- After how many seconds of waiting Postgres cancels an autovacuum worker that is in the way.
SELECT setting::float8 / 1000 FROM pg_settings WHERE name = 'deadlock_timeout'

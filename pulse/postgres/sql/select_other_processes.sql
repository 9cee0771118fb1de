-- The processes of Pulse with a session on this database, but not this one: host and pid, and what each
-- of their sessions is for.
SELECT COALESCE(NULLIF(split_part(application_name, '@', 2), ''), 'unknown'),
       string_agg(DISTINCT split_part(split_part(application_name, '@', 1), ':', 2), ', ')
  FROM pg_catalog.pg_stat_activity
 WHERE datname = pg_catalog.current_database()
   AND application_name LIKE 'pulse:%%'
   AND split_part(application_name, '@', 2)
       <> split_part(pg_catalog.current_setting('application_name'), '@', 2)
 GROUP BY 1
 ORDER BY 1

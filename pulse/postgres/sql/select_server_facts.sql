-- The server's settings that durability and capacity depend on, in their base units; this session's
-- role and backend; and the number of client connections. Without pg_read_all_stats, backend_type is
-- NULL for sessions of other roles; those in a database then count as clients.
SELECT name, setting
  FROM pg_catalog.pg_settings
 WHERE name = ANY (%s::text[])
 UNION ALL
SELECT fact.name, fact.value
  FROM (VALUES
        ('is_superuser', (SELECT rolsuper::text FROM pg_catalog.pg_roles WHERE rolname = current_user)),
        ('role', current_user::text),
        ('backend_pid', pg_catalog.pg_backend_pid()::text),
        ('connections', (SELECT count(*)::text FROM pg_catalog.pg_stat_activity
                          WHERE datid IS NOT NULL
                            AND coalesce(backend_type, 'client backend') = 'client backend'))
       ) AS fact (name, value)

-- The sessions and prepared transactions that hold locks on tables of this schema, the oldest first.
-- A role without pg_read_all_stats does not see the start of other roles' transactions.
SELECT pg_catalog.format('%%s, %%s, of role %%s, open since %%s',
                         COALESCE('pid ' || l.pid, 'a prepared transaction'),
                         a.application_name, a.usename, COALESCE(a.xact_start::text, 'hidden'))
  FROM pg_catalog.pg_locks l
  JOIN pg_catalog.pg_class c ON c.oid = l.relation
  LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'relation'
   AND l.granted
   AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d
                      WHERE d.datname = pg_catalog.current_database())
   AND c.relnamespace = pg_catalog.to_regnamespace(pg_catalog.quote_ident(%s))
   AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
 GROUP BY l.pid, a.application_name, a.usename, a.xact_start
 ORDER BY a.xact_start NULLS LAST, l.pid
 LIMIT %s

-- Sessions and prepared transactions that have held, since before this long ago, a lock that keeps the
-- swap from the queue's tables or from the position: who, in which state, since when its transaction
-- is open, and whether it is an autovacuum worker. State and time of another role's session are
-- hidden from a role without pg_read_all_stats.
SELECT COALESCE('pid ' || l.pid, format('prepared transaction %L', x.gid)),
       COALESCE(NULLIF(a.application_name, ''), a.backend_type, 'no session'),
       COALESCE(a.usename, x.owner, 'none'),
       COALESCE(a.state, CASE WHEN l.pid IS NULL THEN 'prepared' ELSE 'state hidden' END),
       COALESCE(a.xact_start, x.prepared),
       COALESCE(a.backend_type = 'autovacuum worker', false),
       string_agg(DISTINCT c.relname, ', ')
  FROM pg_locks l
  JOIN pg_class c ON c.oid = l.relation
  JOIN pg_namespace s ON s.oid = c.relnamespace
  LEFT JOIN pg_stat_activity a ON a.pid = l.pid
  LEFT JOIN pg_locks prepared
    ON l.pid IS NULL
   AND prepared.pid IS NULL
   AND prepared.virtualtransaction = l.virtualtransaction
   AND prepared.locktype = 'transactionid'
  LEFT JOIN pg_prepared_xacts x ON x.transaction = prepared.transactionid
 WHERE l.locktype = 'relation'
   AND l.granted
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND s.nspname = {live_name}
   AND (c.relname IN (
            'order_queue', 'order_slices', 'parked_orders', 'order_claims', 'order_queue_status')
        OR (c.relname = 'notification_tracking' AND l.mode <> 'AccessShareLock'))
   AND l.pid IS DISTINCT FROM pg_backend_pid()
   AND COALESCE(a.xact_start, x.prepared, '-infinity')
       < clock_timestamp() - make_interval(secs => {seconds})
 GROUP BY 1, 2, 3, 4, 5, 6
 ORDER BY 5

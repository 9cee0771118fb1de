-- Sessions and prepared transactions that hold locks on the queue's tables which a rebuild may wait for:
-- who, in which state, since when its transaction is open (hidden of another role's session from a role
-- without pg_read_all_stats), and what it holds.
SELECT format('%%s (%%s of role %%s, %%s, transaction open since %%s) holds %%s',
              COALESCE('pid ' || l.pid, 'a prepared transaction'), a.application_name, a.usename,
              COALESCE(a.state, 'state hidden'), COALESCE(a.xact_start::text, 'hidden'),
              string_agg(DISTINCT c.relname, ', '))
  FROM pg_locks l
  JOIN pg_class c ON c.oid = l.relation
  LEFT JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'relation'
   AND l.granted
   AND l.mode <> 'AccessShareLock'
   AND c.oid IN ('order_queue'::regclass, 'pending_orders'::regclass,
                 'scheduled_slices'::regclass, 'parked_orders'::regclass,
                 'notification_tracking'::regclass)
   AND l.pid IS DISTINCT FROM pg_backend_pid()
 GROUP BY l.pid, a.application_name, a.usename, a.state, a.xact_start

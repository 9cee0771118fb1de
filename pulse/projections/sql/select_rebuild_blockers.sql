-- Sessions and prepared transactions with locks on the queue's tables that a rebuild may wait for:
-- the session, its state, the start of its transaction, and the tables. A role without
-- pg_read_all_stats does not see the state and the start of other roles' sessions.
SELECT format('%%s (%%s of role %%s, %%s, transaction open since %%s) holds locks on %%s',
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
                 'scheduled_slices'::regclass, 'due_orders'::regclass, 'parked_orders'::regclass,
                 'notification_tracking'::regclass)
   AND l.pid IS DISTINCT FROM pg_backend_pid()
 GROUP BY l.pid, a.application_name, a.usename, a.state, a.xact_start

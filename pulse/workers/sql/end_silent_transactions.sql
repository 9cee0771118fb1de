-- End sessions of Pulse that hold locks while their client, frozen or cut off, is silent. In the midst
-- of a statement (it sends no rest of it, or takes no answer) none of Postgres' timeouts reaches a
-- backend that waits for its client. Between two statements idle_in_transaction_session_timeout does,
-- but not after a pipeline: libpq sends Flush behind its Sync, and reading that stops the timer. Either
-- would keep everyone from appending, from projecting, or from these orders. A lock that only reading
-- takes is in nobody's way. A rebuild gives itself 60 s between two statements, and in the midst of
-- a pipeline while it makes thousands of slices ready to send, unless it holds up the projection.
SELECT a.application_name, pg_terminate_backend(a.pid)
  FROM pg_stat_activity a
 WHERE a.datname = current_database()
   AND a.usename = current_user
   AND a.application_name LIKE 'pulse:%%'
   AND a.state IN ('active', 'idle in transaction', 'idle in transaction (aborted)')
   AND a.wait_event IN ('ClientRead', 'ClientWrite')
   AND a.state_change < clock_timestamp() - make_interval(
           secs => CASE WHEN a.application_name LIKE 'pulse:rebuild@%%'
                         AND (a.state <> 'active' OR NOT EXISTS (
                             SELECT FROM pg_locks p
                              WHERE p.pid = a.pid
                                AND p.relation = 'notification_tracking'::regclass
                                AND p.mode IN ('RowShareLock', 'RowExclusiveLock')))
                        THEN 60 ELSE %b::float8 END)
   AND EXISTS (
       SELECT FROM pg_locks l
        WHERE l.pid = a.pid
          AND l.granted
          AND l.mode IN ('RowShareLock', 'RowExclusiveLock'))

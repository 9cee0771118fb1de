-- End sessions of Pulse that hold locks while their client, frozen or cut off, sends and takes nothing.
-- In the middle of a statement none of Postgres' timeouts reaches a backend that waits for its client.
-- Between two statements idle_in_transaction_session_timeout does, but not after a pipeline: libpq sends
-- Flush behind its Sync, and reading that stops the timer. Either would keep all others from appending,
-- from projecting, or from these orders. A lock that only reading takes blocks none of that.
SELECT a.application_name, pg_terminate_backend(a.pid)
  FROM pg_stat_activity a
 WHERE a.datname = current_database()
   AND a.usename = current_user
   AND a.application_name LIKE 'pulse:%%'
   AND a.state IN ('active', 'idle in transaction', 'idle in transaction (aborted)')
   AND a.wait_event IN ('ClientRead', 'ClientWrite')
   AND a.state_change < clock_timestamp() - make_interval(secs => %b::float8)
   AND EXISTS (
       SELECT FROM pg_locks l
        WHERE l.pid = a.pid
          AND l.granted
          AND l.mode IN ('RowShareLock', 'RowExclusiveLock'))

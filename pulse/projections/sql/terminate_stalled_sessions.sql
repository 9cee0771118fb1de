-- Terminate sessions of Pulse that hold locks while their client, frozen or disconnected, does not
-- respond. Within a statement no timeout of Postgres applies to a backend that waits for its
-- client. Between two statements idle_in_transaction_session_timeout applies, but not after a
-- pipeline: libpq sends Flush after Sync, and reading it stops the timer. Such a session would
-- block appends, the projection, or claims. Sessions that hold only read locks block none of these
-- and are not terminated.
SELECT a.application_name, pg_terminate_backend(a.pid)
  FROM pg_stat_activity a
 WHERE a.datname = current_database()
   AND a.usename = current_user
   AND a.application_name LIKE 'pulse:%%'
   AND a.state IN ('active', 'idle in transaction', 'idle in transaction (aborted)')
   AND a.wait_event IN ('ClientRead', 'ClientWrite')
   AND a.state_change < clock_timestamp() - make_interval(secs =>
           CASE WHEN a.application_name LIKE %(rebuild)b::text
                THEN %(rebuild_stalled_seconds)b::float8
                ELSE %(stalled_seconds)b::float8 END)
   AND EXISTS (
       SELECT FROM pg_locks l
        WHERE l.pid = a.pid
          AND l.granted
          AND l.mode IN ('RowShareLock', 'RowExclusiveLock'))

-- End sessions of Pulse that hold locks in the midst of a statement while their client, frozen or cut
-- off, neither sends the rest of it nor takes the answer. Between statements Postgres ends them by
-- itself; in the midst of one none of its timeouts reaches a backend that waits for its client, which
-- would keep everyone from appending, from projecting, or from these orders. A lock that only reading
-- takes is in nobody's way.
SELECT a.application_name, pg_terminate_backend(a.pid)
  FROM pg_stat_activity a
 WHERE a.datname = current_database()
   AND a.usename = current_user
   AND a.application_name LIKE 'pulse:%%'
   AND a.state = 'active'
   AND a.wait_event IN ('ClientRead', 'ClientWrite')
   AND a.state_change < clock_timestamp() - make_interval(secs => %b::float8)
   AND EXISTS (
       SELECT FROM pg_locks l
        WHERE l.pid = a.pid
          AND l.granted
          AND l.mode IN ('RowShareLock', 'RowExclusiveLock'))

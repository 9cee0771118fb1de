-- Every declared fork of the log, the oldest first.
SELECT position, size, known_size, old_log_id, new_log_id, forked_at, forked_by, reason
  FROM log_forks
 ORDER BY number

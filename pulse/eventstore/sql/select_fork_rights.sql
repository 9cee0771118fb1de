-- The name of this role, whether it may fork the log, and the end of the log.
SELECT current_user::text,
       has_table_privilege('log_identity', 'UPDATE') AND has_table_privilege('log_forks', 'INSERT'),
       (SELECT COALESCE(max(notification_id), 0) FROM stored_events)

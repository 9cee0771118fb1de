-- The last position of the log, 0 for an empty one.
SELECT COALESCE(max(notification_id), 0) FROM stored_events

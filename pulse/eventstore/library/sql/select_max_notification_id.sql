-- The end of the log; null while it is empty.
SELECT max(notification_id) FROM stored_events

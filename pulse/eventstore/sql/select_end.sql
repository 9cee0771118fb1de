-- The position of the last event, 0 for an empty log.
SELECT COALESCE(max(notification_id), 0) FROM stored_events

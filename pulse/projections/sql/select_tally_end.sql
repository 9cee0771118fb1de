-- The last position of the log, 0 if it is empty, and the database's time.
SELECT COALESCE((SELECT max(notification_id) FROM recorded_events()), 0), clock_timestamp()

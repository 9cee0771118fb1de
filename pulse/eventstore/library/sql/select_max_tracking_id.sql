-- How far an application's log has been processed; null if it never was.
SELECT max(notification_id) FROM notification_tracking WHERE application_name = %b::text

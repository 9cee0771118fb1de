-- How far the live projection has read the log.
SELECT notification_id FROM notification_tracking WHERE application_name = %b

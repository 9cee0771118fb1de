-- The position up to which the projection has read the log.
SELECT notification_id FROM notification_tracking WHERE application_name = %b

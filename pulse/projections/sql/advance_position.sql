-- Store the position up to which the projection has read the log.
UPDATE notification_tracking
   SET notification_id = %b::bigint
 WHERE application_name = %b

-- The projection has now read the log up to here.
UPDATE notification_tracking
   SET notification_id = %b::bigint
 WHERE application_name = %b

-- The projection's position, held until the transaction ends; nothing if another holds it.
SELECT notification_id
  FROM notification_tracking
 WHERE application_name = %b
   FOR UPDATE SKIP LOCKED

-- The projection's position, held until the transaction ends, after the process that holds it now.
SELECT notification_id
  FROM notification_tracking
 WHERE application_name = %b
   FOR UPDATE

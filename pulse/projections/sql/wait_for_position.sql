-- The projection's position, held until the transaction ends, whoever must finish first.
SELECT notification_id
  FROM notification_tracking
 WHERE application_name = %b
   FOR UPDATE

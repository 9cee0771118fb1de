-- Lock the projection's position until the transaction ends, waiting for another holder, and return
-- it.
SELECT notification_id
  FROM notification_tracking
 WHERE application_name = %b
   FOR UPDATE

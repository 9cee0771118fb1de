-- Lock the projection's position until the transaction ends, and return it. Waits while another
-- process holds the lock.
SELECT notification_id
  FROM notification_tracking
 WHERE application_name = %b
   FOR UPDATE

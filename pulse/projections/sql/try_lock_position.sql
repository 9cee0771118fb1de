-- Lock the projection's position until the transaction ends. Returns it, and whether any order is
-- parked; no row if another process holds the lock.
SELECT notification_id, EXISTS (SELECT FROM parked_orders)
  FROM notification_tracking
 WHERE application_name = %b
   FOR UPDATE OF notification_tracking SKIP LOCKED

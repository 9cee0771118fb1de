-- The projection's position, held until the transaction ends, and whether any order is parked;
-- nothing if another holds it.
SELECT notification_id, EXISTS (SELECT FROM parked_orders)
  FROM notification_tracking
 WHERE application_name = %b
   FOR UPDATE OF notification_tracking SKIP LOCKED

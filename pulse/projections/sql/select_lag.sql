-- How far the projection is behind: its position, how long ago (by the database's clock) the first
-- event it has not read was recorded, zero if it has read all, and how many orders are parked.
SELECT t.notification_id,
       COALESCE(EXTRACT(EPOCH FROM clock_timestamp() - (
           SELECT s.recorded_at
             FROM stored_events s
            WHERE s.notification_id > t.notification_id
            ORDER BY s.notification_id
            LIMIT 1)), 0)::float8,
       (SELECT count(*) FROM parked_orders)
  FROM notification_tracking t
 WHERE t.application_name = %b

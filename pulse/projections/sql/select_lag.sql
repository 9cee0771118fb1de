-- How far the projection is behind the log: its position; how many seconds ago, by the database's
-- clock, the first event that it has not read was recorded (0 if it has read all up to the last id
-- issued); how many orders are parked; how many of the 1,000 oldest pending orders need a splitter
-- that this code does not have.
SELECT t.notification_id,
       COALESCE(EXTRACT(EPOCH FROM clock_timestamp() - (
           SELECT s.recorded_at
             FROM recorded_events() s
            WHERE s.notification_id > t.notification_id
              AND s.notification_id <= %s::bigint
            ORDER BY s.notification_id
            LIMIT 1)), 0)::float8,
       (SELECT count(*) FROM parked_orders),
       (SELECT count(*)
          FROM (SELECT splitter_version FROM pending_orders
                 ORDER BY created_position LIMIT 1000) oldest
         WHERE splitter_version <> ALL (%s::integer[]))
  FROM notification_tracking t
 WHERE t.application_name = %s

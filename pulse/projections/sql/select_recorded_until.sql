-- The latest recorded time of the events up to a position, and the last of their positions. Null without
-- events.
WITH summed AS (
    SELECT COALESCE(max(until_position), 0) AS until_position, max(max_recorded_at) AS recorded_at
      FROM queue_history
     WHERE until_position <= %(position)b::bigint
)
SELECT GREATEST(s.recorded_at,
                (SELECT max(e.recorded_at)
                   FROM recorded_events() e
                  WHERE e.notification_id > s.until_position
                    AND e.notification_id <= %(position)b::bigint)),
       (SELECT e.notification_id
          FROM recorded_events() e
         WHERE e.notification_id <= %(position)b::bigint
         ORDER BY e.notification_id DESC
         LIMIT 1)
  FROM summed s

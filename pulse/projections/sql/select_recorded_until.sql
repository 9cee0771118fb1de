-- The latest recorded time of the events up to a position, and the last of their positions; null without
-- events. The third column is false, and the time unknown, if more positions than `max_scanned` would have
-- to be read.
WITH last AS (
    SELECT e.notification_id
      FROM recorded_events() e
     WHERE e.notification_id <= %(position)b::bigint
     ORDER BY e.notification_id DESC
     LIMIT 1
), summed AS (
    SELECT COALESCE(max(until_position), 0) AS until_position, max(max_recorded_at) AS recorded_at
      FROM queue_history
     WHERE until_position <= %(position)b::bigint
), bounds AS (
    SELECT s.until_position, s.recorded_at, l.notification_id,
           COALESCE(l.notification_id - s.until_position <= %(max_scanned)b::bigint, true) AS complete
      FROM summed s
      LEFT JOIN last l ON true
)
SELECT GREATEST(b.recorded_at,
                (SELECT max(e.recorded_at)
                   FROM recorded_events() e
                  WHERE b.complete
                    AND e.notification_id > b.until_position
                    AND e.notification_id <= b.notification_id)),
       b.notification_id,
       b.complete
  FROM bounds b

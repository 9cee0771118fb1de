-- The next window of the log that has events and is not summed up: the position before it, its last
-- position, and the projected one. No row unless the projection has passed the whole window.
SELECT w.until_position - %(size)b::bigint, w.until_position, t.notification_id
  FROM notification_tracking t
 CROSS JOIN LATERAL (
       SELECT (e.notification_id + %(size)b::bigint - 1) / %(size)b::bigint * %(size)b::bigint
                  AS until_position
         FROM recorded_events() e
        WHERE e.notification_id > (SELECT COALESCE(max(until_position), 0) FROM queue_history)
        ORDER BY e.notification_id
        LIMIT 1) w
 WHERE t.application_name = %(projection)b
   AND w.until_position <= t.notification_id

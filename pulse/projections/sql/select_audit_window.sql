-- The end of the audit's next window, and the projected position, after which nothing can be
-- compared yet. A window has at most `rows` events and at most `rows` orders, regardless of gaps
-- between ids.
SELECT LEAST(
           t.notification_id,
           (SELECT notification_id
              FROM recorded_events()
             WHERE notification_id > %(after)b::bigint
             ORDER BY notification_id
            OFFSET %(rows)b::bigint - 1
             LIMIT 1),
           (SELECT created_position
              FROM order_queue
             WHERE created_position > %(after)b::bigint
             ORDER BY created_position
            OFFSET %(rows)b::bigint - 1
             LIMIT 1)),
       t.notification_id
  FROM notification_tracking t
 WHERE t.application_name = %(projection)b

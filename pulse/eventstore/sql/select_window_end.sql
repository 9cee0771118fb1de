-- The position of the last event of a window, which has at most `rows` events after a position,
-- regardless of gaps between ids. NULL if there is no later event.
SELECT max(notification_id)
  FROM (SELECT notification_id
          FROM recorded_events()
         WHERE notification_id > %(after)b::bigint
         ORDER BY notification_id
         LIMIT %(rows)b::bigint) window_events

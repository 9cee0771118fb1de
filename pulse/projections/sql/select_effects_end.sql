-- The last position of the first `count` events after a position and up to another; null if there
-- are none.
SELECT max(next.notification_id)
  FROM (SELECT notification_id
          FROM recorded_events()
         WHERE notification_id > %(after)b::bigint
           AND notification_id <= %(until)b::bigint
         ORDER BY notification_id
         LIMIT %(count)b::bigint) next

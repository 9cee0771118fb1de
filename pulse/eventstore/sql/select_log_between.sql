-- The log after one position and up to another, in commit order.
SELECT *
  FROM recorded_events()
 WHERE notification_id > %b::bigint
   AND notification_id <= %b::bigint
 ORDER BY notification_id

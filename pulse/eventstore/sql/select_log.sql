-- The log after a position, in commit order.
SELECT *
  FROM recorded_events()
 WHERE notification_id > %b::bigint
 ORDER BY notification_id
 LIMIT %b::bigint

-- The log after a position, in commit order, up to the last id that its sequence has issued. Rows
-- with higher ids were not appended by Pulse: a reader that stores their position would skip later
-- events. Without the privilege to read the sequence there is no such bound.
SELECT *
  FROM recorded_events()
 WHERE notification_id > %b::bigint
   AND notification_id <= (SELECT COALESCE(last_issued_id(), 9223372036854775807))
 ORDER BY notification_id
 LIMIT %b::bigint

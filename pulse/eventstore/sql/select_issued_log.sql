-- The log after a position, in commit order, up to the last id that its sequence has issued. A row
-- beyond that was not appended by Pulse: read, it would carry a reader past every event still to come.
-- Without the right to ask the sequence there is no such bound.
SELECT *
  FROM recorded_events()
 WHERE notification_id > %b::bigint
   AND notification_id <= (SELECT COALESCE(last_issued_id(), 9223372036854775807))
 ORDER BY notification_id
 LIMIT %b::bigint

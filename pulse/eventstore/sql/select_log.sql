-- The log after a position, in commit order.
SELECT notification_id, originator_id, originator_version, topic, state, recorded_at
  FROM stored_events
 WHERE notification_id > %b::bigint
 ORDER BY notification_id
 LIMIT %b::bigint

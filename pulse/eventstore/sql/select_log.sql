-- The log after a position, in commit order. A time beyond what a client can hold is brought within
-- that, so that no row keeps others from being read.
SELECT notification_id, originator_id, originator_version, topic, state,
       GREATEST('0001-01-01 00:00:00+00', LEAST(recorded_at, '9999-12-31 23:59:59.999999+00'))
  FROM stored_events
 WHERE notification_id > %b::bigint
 ORDER BY notification_id
 LIMIT %b::bigint

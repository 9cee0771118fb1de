-- The log after a position, in commit order, up to the last id that its sequence has issued. A row
-- beyond that was not appended by Pulse: read, it would carry a reader past every event still to come.
-- Without the right to ask the sequence there is no such bound.
SELECT notification_id, originator_id, originator_version, topic, state,
       GREATEST('0001-01-01 00:00:00+00', LEAST(recorded_at, '9999-12-31 23:59:59.999999+00'))
  FROM stored_events
 WHERE notification_id > %b::bigint
   AND notification_id <= (
       SELECT COALESCE(
                  CASE WHEN has_sequence_privilege(s.name, 'USAGE, SELECT')
                       THEN COALESCE(pg_sequence_last_value(s.name::regclass), 0) END,
                  9223372036854775807)
         FROM (SELECT pg_get_serial_sequence('stored_events', 'notification_id') AS name) s)
 ORDER BY notification_id
 LIMIT %b::bigint

-- One stream as far as the projection has read the log.
SELECT notification_id, originator_id, originator_version, topic, state,
       GREATEST('0001-01-01 00:00:00+00', LEAST(recorded_at, '9999-12-31 23:59:59.999999+00'))
  FROM stored_events
 WHERE originator_id = %b
   AND notification_id <= %b::bigint
 ORDER BY originator_version

-- Several streams, each oldest first.
SELECT notification_id, originator_id, originator_version, topic, state,
       GREATEST('0001-01-01 00:00:00+00', LEAST(recorded_at, '9999-12-31 23:59:59.999999+00'))
  FROM stored_events
 WHERE originator_id = ANY (%b::uuid[])
 ORDER BY originator_id, originator_version

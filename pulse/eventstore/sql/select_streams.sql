-- Several streams, each oldest first.
SELECT notification_id, originator_id, originator_version, topic, state, recorded_at
  FROM stored_events
 WHERE originator_id = ANY (%b::uuid[])
 ORDER BY originator_id, originator_version

-- One stream, oldest first.
SELECT notification_id, originator_id, originator_version, topic, state, recorded_at
  FROM stored_events
 WHERE originator_id = %b
 ORDER BY originator_version

-- One stream as far as the projection has read the log.
SELECT notification_id, originator_id, originator_version, topic, state, recorded_at
  FROM stored_events
 WHERE originator_id = %b
   AND notification_id <= %b::bigint
 ORDER BY originator_version

-- One stream between two versions (exclusive, inclusive), newest first.
SELECT originator_id, originator_version, topic, state
  FROM stored_events
 WHERE originator_id = %b::uuid
   AND originator_version > %b::bigint
   AND originator_version <= %b::bigint
 ORDER BY originator_version DESC
 LIMIT %b::bigint

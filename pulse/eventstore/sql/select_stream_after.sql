-- The events of a stream after a version, oldest first.
SELECT *
  FROM recorded_events()
 WHERE originator_id = %b::uuid
   AND originator_version > %b::bigint
 ORDER BY originator_version

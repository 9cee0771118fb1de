-- Several streams, each oldest event first.
SELECT *
  FROM recorded_events()
 WHERE originator_id = ANY (%b::uuid[])
 ORDER BY originator_id, originator_version

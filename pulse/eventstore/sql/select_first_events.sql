-- The first event of each of these streams.
SELECT originator_id, state
  FROM recorded_events()
 WHERE originator_id = ANY (%b::uuid[])
   AND originator_version = 1

-- The log between two positions (exclusive, inclusive), in commit order: only these topics.
SELECT notification_id, originator_id, originator_version, topic, state
  FROM stored_events
 WHERE notification_id > %b::bigint
   AND notification_id <= %b::bigint
   AND topic = ANY (%b::text[])
 ORDER BY notification_id
 LIMIT %b::bigint

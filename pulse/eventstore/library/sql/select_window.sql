-- The next stretch of the log, whatever is in it, so that a follower of rare topics reads it once:
-- what it does not want comes without its state.
SELECT notification_id, originator_id, originator_version, topic,
       CASE WHEN w.wanted THEN state END,
       w.wanted
  FROM stored_events
 CROSS JOIN LATERAL (
       SELECT coalesce(cardinality(t.topics) = 0 OR topic = ANY (t.topics), false) AS wanted
         FROM (SELECT %b::text[] AS topics) t) w
 WHERE notification_id > %b::bigint
 ORDER BY notification_id
 LIMIT %b::bigint

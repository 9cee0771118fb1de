-- Append events that belong together: all of them, or none and an error. The lock and the order are
-- those of append_events.
INSERT INTO stored_events (originator_id, originator_version, topic, state)
SELECT e.originator_id, e.originator_version, e.topic, e.state
  FROM unnest(%b::uuid[], %b::bigint[], %b::text[], %b::bytea[]) WITH ORDINALITY
       AS e (originator_id, originator_version, topic, state, ord)
 WHERE (SELECT pg_advisory_xact_lock(%b::bigint)) IS NOT NULL
 ORDER BY e.ord
RETURNING originator_id, originator_version, notification_id

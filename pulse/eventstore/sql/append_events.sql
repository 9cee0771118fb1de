-- Append independent events. An event whose (originator_id, originator_version) is taken is skipped
-- and not returned; a taken id is an error. One statement locks and inserts, so the lock is taken
-- only after the whole batch has arrived, and is held for one flush. The lock makes ids follow the
-- commit order.
INSERT INTO stored_events (originator_id, originator_version, topic, state)
SELECT e.originator_id, e.originator_version, e.topic, e.state
  FROM unnest(%b::uuid[], %b::bigint[], %b::text[], %b::bytea[]) WITH ORDINALITY
       AS e (originator_id, originator_version, topic, state, ord)
 WHERE (SELECT pg_advisory_xact_lock(%b::bigint)) IS NOT NULL
 ORDER BY e.ord
    ON CONFLICT (originator_id, originator_version) DO NOTHING
RETURNING originator_id, originator_version, notification_id

-- Append single events, each on its own: a taken (originator_id, originator_version) is left out of
-- the answer and touches no other; a taken id is an error. Lock and insert are one statement, so the
-- lock is taken only when the whole batch has arrived and is held for one flush: ids are handed out in
-- the order of commits.
INSERT INTO stored_events (originator_id, originator_version, topic, state)
SELECT e.originator_id, e.originator_version, e.topic, e.state
  FROM unnest(%b::uuid[], %b::bigint[], %b::text[], %b::bytea[]) WITH ORDINALITY
       AS e (originator_id, originator_version, topic, state, ord)
 WHERE (SELECT pg_advisory_xact_lock(%b::bigint)) IS NOT NULL
 ORDER BY e.ord
    ON CONFLICT (originator_id, originator_version) DO NOTHING
RETURNING originator_id, originator_version, notification_id

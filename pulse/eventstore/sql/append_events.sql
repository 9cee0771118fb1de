-- Append independent events. An event whose (originator_id, originator_version) is taken is skipped
-- and not returned; a taken id is an error. One statement locks and inserts, so the lock is taken
-- only after the whole batch has arrived, and is held for one flush. The lock makes ids follow the
-- commit order. An event with a guard version is skipped unless the guard stream has this version
-- under the lock. An event with a `before` time is skipped once that time has come.
WITH locked AS MATERIALIZED (
    SELECT lock_log(%b::bigint, %b::uuid) AS guard_version
)
INSERT INTO stored_events (originator_id, originator_version, topic, state)
SELECT e.originator_id, e.originator_version, e.topic, e.state
  FROM unnest(%b::uuid[], %b::bigint[], %b::text[], %b::bytea[], %b::bigint[], %b::timestamptz[])
       WITH ORDINALITY
       AS e (originator_id, originator_version, topic, state, guard_version, before, ord)
 WHERE (SELECT guard_version FROM locked) IS NOT NULL
   AND (e.guard_version IS NULL OR e.guard_version = (SELECT guard_version FROM locked))
   AND (e.before IS NULL OR clock_timestamp() < e.before)
 ORDER BY e.ord
    ON CONFLICT (originator_id, originator_version) DO NOTHING
RETURNING originator_id, originator_version, notification_id

-- Move a position forward and append the events that came of it: both, or neither. Nothing comes
-- back if the position stands there already. The log's lock is taken after the position's row, and
-- only if that was moved; being one statement, it is held for one flush.
WITH tracked AS (
    INSERT INTO notification_tracking AS t (application_name, notification_id)
    VALUES (%b::text, %b::bigint)
        ON CONFLICT (application_name) DO UPDATE
       SET notification_id = excluded.notification_id
     WHERE t.notification_id < excluded.notification_id
    RETURNING notification_id
)
INSERT INTO stored_events (originator_id, originator_version, topic, state)
SELECT e.originator_id, e.originator_version, e.topic, e.state
  FROM unnest(%b::uuid[], %b::bigint[], %b::text[], %b::bytea[]) WITH ORDINALITY
       AS e (originator_id, originator_version, topic, state, ord)
 WHERE (SELECT pg_advisory_xact_lock(%b::bigint) FROM tracked) IS NOT NULL
 ORDER BY e.ord
RETURNING originator_id, originator_version, notification_id

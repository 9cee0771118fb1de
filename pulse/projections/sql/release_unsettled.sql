-- Hand back whatever this worker holds that has no outcome in the log: for when it does not know
-- itself, because an answer was lost. An order that has one is left to the projection.
UPDATE order_claims c
   SET claimed_by = NULL,
       claimed_at = NULL
 WHERE c.claimed_by = %b
   AND NOT EXISTS (
       SELECT FROM recorded_events() s
        WHERE s.originator_id = c.order_id
          AND s.originator_version > 1)
RETURNING c.order_id

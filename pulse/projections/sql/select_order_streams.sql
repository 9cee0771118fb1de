-- Some orders' streams with their claims laid over, in one snapshot: an outcome is committed before
-- its claim is deleted, so no reader sees the order fall back from IN_PROGRESS to PENDING.
SELECT s.*, c.claimed_by, c.claimed_at
  FROM recorded_events() s
  LEFT JOIN order_claims c ON c.order_id = s.originator_id AND c.claimed_by IS NOT NULL
 WHERE s.originator_id = ANY (%b::uuid[])
 ORDER BY s.originator_id, s.originator_version

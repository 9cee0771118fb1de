-- Claim the oldest orders that no worker holds, but for those given, all at one moment. A claim that
-- was handed back keeps its first time.
WITH pending AS (
    SELECT q.order_id
      FROM order_queue q
     WHERE q.state = 'PENDING'
       AND q.splitter_version = ANY (%b::integer[])
       AND q.order_id <> ALL (%b::uuid[])
       AND NOT EXISTS (
           SELECT FROM order_claims c WHERE c.order_id = q.order_id AND c.claimed_by IS NOT NULL)
       AND NOT EXISTS (SELECT FROM parked_orders p WHERE p.order_id = q.order_id)
     ORDER BY q.created_position
     LIMIT %b::bigint
       FOR UPDATE OF q SKIP LOCKED
)
INSERT INTO order_claims AS c (order_id, claimed_by, claimed_at, first_claimed_at)
SELECT p.order_id, %b::text, moment.at, moment.at
  FROM (SELECT clock_timestamp() AS at) moment CROSS JOIN pending p
    ON CONFLICT (order_id) DO UPDATE
       SET claimed_by = excluded.claimed_by,
           claimed_at = excluded.claimed_at
     WHERE c.claimed_by IS NULL
RETURNING c.order_id, c.claimed_by, c.claimed_at, c.first_claimed_at

-- Claim the oldest unclaimed orders, except those given. All get the same claim time. The first
-- claim of an order sets first_claimed_at.
WITH moment AS MATERIALIZED (
    SELECT clock_timestamp() AS at
), free AS (
    SELECT p.created_position
      FROM pending_orders p
     WHERE p.claimed_by IS NULL
       AND p.splitter_version = ANY (%b::integer[])
       AND p.order_id <> ALL (%b::uuid[])
       AND NOT EXISTS (SELECT FROM parked_orders k WHERE k.order_id = p.order_id)
     ORDER BY p.created_position
     LIMIT %b::bigint
       FOR UPDATE OF p SKIP LOCKED
)
UPDATE pending_orders p
   SET claimed_by = %b::text,
       claimed_at = moment.at,
       first_claimed_at = COALESCE(p.first_claimed_at, moment.at)
  FROM free CROSS JOIN moment
 WHERE p.created_position = free.created_position
RETURNING p.order_id, p.claimed_by, p.claimed_at, p.first_claimed_at

-- Claims older than the timeout, by the database's clock, oldest first, after a cursor. Parked
-- orders are skipped, since their streams cannot be read.
SELECT p.order_id, p.claimed_by, p.claimed_at, p.first_claimed_at
  FROM pending_orders p
 WHERE p.claimed_by IS NOT NULL
   AND p.first_claimed_at <= clock_timestamp() - make_interval(secs => %b::float8)
   AND (p.first_claimed_at, p.order_id) > (%b::timestamptz, %b::uuid)
   AND NOT EXISTS (SELECT FROM parked_orders k WHERE k.order_id = p.order_id)
 ORDER BY p.first_claimed_at, p.order_id
 LIMIT %b::bigint

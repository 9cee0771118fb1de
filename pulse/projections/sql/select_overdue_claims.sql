-- Claims older than the timeout, by the database's clock, oldest first, after a given one; not those
-- of parked orders, whose streams cannot be read.
SELECT order_id, claimed_by, claimed_at, first_claimed_at
  FROM order_claims
 WHERE claimed_by IS NOT NULL
   AND first_claimed_at <= clock_timestamp() - make_interval(secs => %b::float8)
   AND (first_claimed_at, order_id) > (%b::timestamptz, %b::uuid)
   AND NOT EXISTS (SELECT FROM parked_orders p WHERE p.order_id = order_claims.order_id)
 ORDER BY first_claimed_at, order_id
 LIMIT %b::bigint

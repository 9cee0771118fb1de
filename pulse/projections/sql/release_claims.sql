-- Release claims of a worker; first_claimed_at stays, since the timeout counts from it.
UPDATE pending_orders p
   SET claimed_by = NULL,
       claimed_at = NULL
  FROM order_queue q
 WHERE q.order_id = ANY (%b::uuid[])
   AND p.created_position = q.created_position
   AND p.claimed_by = %b

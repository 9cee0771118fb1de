-- Release claims of a worker and reset first_claimed_at, for orders that this code cannot process.
UPDATE pending_orders p
   SET claimed_by = NULL,
       claimed_at = NULL,
       first_claimed_at = NULL
  FROM order_queue q
 WHERE q.order_id = ANY (%b::uuid[])
   AND p.created_position = q.created_position
   AND p.claimed_by = %b

-- Hand claims back as if they had never been: for orders that this code can do nothing with.
UPDATE pending_orders p
   SET claimed_by = NULL,
       claimed_at = NULL,
       first_claimed_at = NULL
  FROM order_queue q
 WHERE q.order_id = ANY (%b::uuid[])
   AND p.created_position = q.created_position
   AND p.claimed_by = %b

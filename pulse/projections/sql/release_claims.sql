-- Hand claims back: only one's own, and without forgetting when the order was first claimed.
UPDATE pending_orders p
   SET claimed_by = NULL,
       claimed_at = NULL
  FROM order_queue q
 WHERE q.order_id = ANY (%b::uuid[])
   AND p.created_position = q.created_position
   AND p.claimed_by = %b

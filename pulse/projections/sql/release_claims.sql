-- Hand claims back: only one's own, and without forgetting when the order was first claimed.
UPDATE order_claims
   SET claimed_by = NULL,
       claimed_at = NULL
 WHERE order_id = ANY (%b::uuid[])
   AND claimed_by = %b

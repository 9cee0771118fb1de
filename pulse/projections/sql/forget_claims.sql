-- Hand claims back as if they had never been: for orders that this code can do nothing with.
DELETE FROM order_claims
 WHERE order_id = ANY (%b::uuid[])
   AND claimed_by = %b

-- An outcome ends its order's claim.
DELETE FROM order_claims WHERE order_id = ANY (%b::uuid[])

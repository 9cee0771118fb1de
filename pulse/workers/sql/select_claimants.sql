-- Who holds claims.
SELECT DISTINCT claimed_by FROM order_claims WHERE claimed_by IS NOT NULL

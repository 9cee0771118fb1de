-- Orders in progress: from the claims, which are few, to their rows. Workers claim the oldest
-- orders, so the other way would go through the whole backlog, newest first, to find them.
SELECT q.*
  FROM order_claims c
 CROSS JOIN LATERAL (
       SELECT * FROM order_queue q WHERE q.order_id = c.order_id OFFSET 0) q
 WHERE c.claimed_by IS NOT NULL
   AND q.state = 'PENDING'
   AND q.created_position < %(before)b::bigint
   /* filter */
 ORDER BY q.created_position DESC
 LIMIT %(rows)b::bigint

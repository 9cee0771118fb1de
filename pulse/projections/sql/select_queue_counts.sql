-- The whole queue by state, each with the age of its oldest order in seconds by the database's
-- clock: PENDING since it was created, IN_PROGRESS since it was first claimed. State by state, so
-- that each is counted in its own index, and COMPLETED, which is nearly all, in that alone.
SELECT order_status(q.state, c.claimed_by), NULL, count(*),
       EXTRACT(EPOCH FROM clock_timestamp() - min(
           CASE WHEN c.claimed_by IS NULL THEN q.created_at ELSE c.first_claimed_at END))::float8
  FROM order_queue q
  LEFT JOIN order_claims c USING (order_id)
 WHERE q.state = 'PENDING'
 GROUP BY 1
 UNION ALL
SELECT 'COMPLETED', NULL, count(*), NULL
  FROM order_queue
 WHERE state = 'COMPLETED'
 UNION ALL
SELECT 'FAILED', failure_reason, count(*), NULL
  FROM order_queue
 WHERE state = 'FAILED'
 GROUP BY failure_reason

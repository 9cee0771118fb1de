-- The whole queue by state, each with the age of its oldest order in seconds by the database's
-- clock: PENDING since it was created, IN_PROGRESS since it was first claimed. COMPLETED are all that
-- are neither pending nor failed, so that no row of them is read.
WITH failed AS (
    SELECT failure_reason, count(*) AS orders
      FROM order_queue
     WHERE failure_reason IS NOT NULL
     GROUP BY failure_reason
)
SELECT order_status('PENDING', p.claimed_by), NULL, count(*),
       EXTRACT(EPOCH FROM clock_timestamp() - min(
           CASE WHEN p.claimed_by IS NULL THEN p.created_at ELSE p.first_claimed_at END))::float8
  FROM pending_orders p
 GROUP BY 1
 UNION ALL
SELECT 'COMPLETED', NULL,
       count(*) - (SELECT count(*) FROM pending_orders)
                - (SELECT COALESCE(sum(orders), 0) FROM failed)::bigint, NULL
  FROM order_queue
 UNION ALL
SELECT 'FAILED', failure_reason, orders, NULL
  FROM failed

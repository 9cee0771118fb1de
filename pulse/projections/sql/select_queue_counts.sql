-- The number of orders by status, FAILED ones by reason, and the age in seconds of the oldest one
-- by the database's clock: PENDING since its creation, IN_PROGRESS since its first claim. COMPLETED
-- is the rest, so that no condition has to be checked on these rows.
WITH cancelled AS (
    SELECT count(*) AS orders FROM order_queue WHERE cancelled_unsplit
), failed AS (
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
                - (SELECT COALESCE(sum(orders), 0) FROM failed)::bigint
                - (SELECT orders FROM cancelled), NULL
  FROM order_queue
 UNION ALL
SELECT 'FAILED', failure_reason, orders, NULL
  FROM failed
 UNION ALL
SELECT 'CANCELLED', NULL, orders, NULL
  FROM cancelled
 WHERE orders > 0

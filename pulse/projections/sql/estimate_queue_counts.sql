-- As select_queue_counts, without reading every order: orders without an outcome are counted
-- exactly, the others are scaled up from a sample of about 4,000 pages of the table.
WITH sample AS (
    SELECT LEAST(100, 100.0 * 4000 * current_setting('block_size')::bigint
                      / GREATEST(1, pg_relation_size('order_queue'))) AS percent
)
SELECT order_status('PENDING', p.claimed_by), NULL, count(*),
       EXTRACT(EPOCH FROM clock_timestamp() - min(
           CASE WHEN p.claimed_by IS NULL THEN p.created_at ELSE p.first_claimed_at END))::float8
  FROM pending_orders p
 GROUP BY 1
 UNION ALL
SELECT state, failure_reason, round(count(*) * 100 / (SELECT percent FROM sample))::bigint, NULL
  FROM order_queue TABLESAMPLE SYSTEM ((SELECT percent FROM sample))
 WHERE state <> 'PENDING'
 GROUP BY state, failure_reason

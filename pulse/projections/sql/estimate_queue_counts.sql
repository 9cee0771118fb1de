-- The same without counting every order: those without an outcome exactly, by their index; the
-- others scaled up from a sample of about 4,000 pages of the table.
WITH sample AS (
    SELECT LEAST(100, 100.0 * 4000 * current_setting('block_size')::bigint
                      / GREATEST(1, pg_relation_size('order_queue'))) AS percent
)
SELECT order_status(q.state, c.claimed_by), NULL, count(*),
       EXTRACT(EPOCH FROM clock_timestamp() - min(
           CASE WHEN c.claimed_by IS NULL THEN q.created_at ELSE c.first_claimed_at END))::float8
  FROM order_queue q
  LEFT JOIN order_claims c USING (order_id)
 WHERE q.state = 'PENDING'
 GROUP BY 1
 UNION ALL
SELECT state, failure_reason, round(count(*) * 100 / (SELECT percent FROM sample))::bigint, NULL
  FROM order_queue TABLESAMPLE SYSTEM ((SELECT percent FROM sample))
 WHERE state <> 'PENDING'
 GROUP BY state, failure_reason

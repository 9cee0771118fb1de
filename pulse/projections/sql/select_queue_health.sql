-- What waits and what fails: of the 1,000 oldest PENDING orders that no worker holds and that are not
-- parked, how many this code can split and the age of the oldest in seconds, how many want newer code
-- and the age of the oldest; and of the 1,000 newest FAILED ones how many failed lately, by reason.
WITH oldest AS (
    SELECT q.order_id, q.created_at, q.splitter_version = ANY (%(splitters)b::integer[]) AS known
      FROM order_queue q
     WHERE q.state = 'PENDING'
     ORDER BY q.created_position
     LIMIT 1000
), waiting AS (
    SELECT o.known, EXTRACT(EPOCH FROM clock_timestamp() - o.created_at)::float8 AS seconds
      FROM oldest o
     WHERE NOT EXISTS (
           SELECT FROM order_claims c WHERE c.order_id = o.order_id AND c.claimed_by IS NOT NULL)
       AND NOT EXISTS (SELECT FROM parked_orders p WHERE p.order_id = o.order_id)
), failed AS (
    SELECT n.failure_reason, count(*) AS orders
      FROM (SELECT failure_reason, updated_at
              FROM order_queue
             WHERE state = 'FAILED'
             ORDER BY created_position DESC
             LIMIT 1000) n
     WHERE n.updated_at > clock_timestamp() - make_interval(secs => %(lately_seconds)b::float8)
     GROUP BY n.failure_reason
)
SELECT count(*) FILTER (WHERE known),
       COALESCE(max(seconds) FILTER (WHERE known), 0),
       count(*) FILTER (WHERE NOT known),
       COALESCE(max(seconds) FILTER (WHERE NOT known), 0),
       COALESCE((SELECT jsonb_object_agg(COALESCE(failure_reason, ''), orders) FROM failed), '{}')
  FROM waiting

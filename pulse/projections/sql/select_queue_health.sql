-- Waiting and failed orders. Of the 1,000 oldest pending orders, those that are unclaimed and not
-- parked: how many this code can split and the age of the oldest in seconds, how many need newer
-- code and the age of the oldest. Of the 1,000 newest FAILED orders: how many failed recently, by
-- reason. How many orders have slices that are due, up to 1,000, how long the first has been due, and
-- how long the first of them that no halt covers has been due.
WITH waiting AS (
    SELECT o.splitter_version = ANY (%(splitters)b::integer[]) AS known,
           EXTRACT(EPOCH FROM clock_timestamp() - o.created_at)::float8 AS seconds
      FROM (SELECT * FROM pending_orders ORDER BY created_position LIMIT 1000) o
     WHERE o.claimed_by IS NULL
       AND NOT EXISTS (SELECT FROM parked_orders k WHERE k.order_id = o.order_id)
), failed AS (
    SELECT n.failure_reason, count(*) AS orders
      FROM (SELECT failure_reason, updated_at
              FROM order_queue
             WHERE failure_reason IS NOT NULL
             ORDER BY created_position DESC
             LIMIT 1000) n
     WHERE n.updated_at > clock_timestamp() - make_interval(secs => %(recent_seconds)b::float8)
     GROUP BY n.failure_reason
), due AS (
    SELECT count(*) AS orders,
           COALESCE(EXTRACT(EPOCH FROM clock_timestamp() - min(d.due_at)), 0)::float8 AS seconds,
           COALESCE(EXTRACT(EPOCH FROM clock_timestamp() - min(d.due_at) FILTER (
               WHERE NOT (%(any_halted)b::boolean
                          AND (%(all_halted)b::boolean
                               OR EXISTS (
                                  SELECT
                                    FROM order_queue h
                                   WHERE h.created_position = d.created_position
                                     AND (h.instrument = ANY (%(halted_instruments)b::text[])
                                          OR h.placed_by = ANY (%(halted_callers)b::text[])))))
           )), 0)::float8 AS unhalted_seconds
      FROM (SELECT created_position, due_at
              FROM due_orders
             WHERE due_at <= clock_timestamp()
             ORDER BY due_at
             LIMIT 1000) d
)
SELECT count(*) FILTER (WHERE known),
       COALESCE(max(seconds) FILTER (WHERE known), 0),
       count(*) FILTER (WHERE NOT known),
       COALESCE(max(seconds) FILTER (WHERE NOT known), 0),
       COALESCE((SELECT jsonb_object_agg(COALESCE(failure_reason, ''), orders) FROM failed), '{}'),
       (SELECT orders FROM due),
       (SELECT seconds FROM due),
       (SELECT unhalted_seconds FROM due)
  FROM waiting

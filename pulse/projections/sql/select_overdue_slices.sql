-- Slices that have been due for `overdue_seconds` or longer and are not settled, the longest due first:
-- those of the 200 orders that have been due for the longest time. OFFSET 0 keeps the planner from reading
-- slices of all orders by time until it has enough.
SELECT q.order_id, q.order_unique_key, q.instrument, q.side, q.placed_by, q.release,
       s.sequence_number, s.quantity, s.scheduled_at, 'SCHEDULED'
  FROM (SELECT created_position
          FROM due_orders
         WHERE due_at <= clock_timestamp()
         ORDER BY due_at
         LIMIT 200) d
 CROSS JOIN LATERAL (
       SELECT *
         FROM order_queue
        WHERE created_position BETWEEN d.created_position AND d.created_position
        ORDER BY created_position
        LIMIT 1) q
 CROSS JOIN LATERAL (
       SELECT *
         FROM scheduled_slices
        WHERE created_position = d.created_position
          AND sequence_number > length(q.settled)
          AND scheduled_at <= clock_timestamp() - make_interval(secs => %(overdue_seconds)b::float8)
       OFFSET 0) s
 ORDER BY s.scheduled_at, q.order_id
 LIMIT %(rows)b::bigint

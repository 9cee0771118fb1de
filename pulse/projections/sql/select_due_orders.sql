-- The orders at which a releaser has to look now, the longest due first, except those at some
-- positions of creation. Each has its next unsettled slices: every one whose time has come, and the
-- one after them. Each row begins with the time of this moment and the seconds until the next order
-- is due; there is one row if no order is.
WITH now AS MATERIALIZED (
    SELECT clock_timestamp() AS at
), moment AS MATERIALIZED (
    SELECT now.at,
           (SELECT EXTRACT(EPOCH FROM due_at - now.at)::float8
              FROM due_orders
             WHERE due_at > now.at
             ORDER BY due_at
             LIMIT 1) AS next_seconds
      FROM now
)
SELECT moment.at, moment.next_seconds,
       o.order_id, o.version, o.order_unique_key, o.instrument, o.side, o.trace_id,
       o.sequence_numbers, o.quantities, o.times, o.created_position
  FROM moment
  LEFT JOIN LATERAL (
       SELECT q.*, s.*
         FROM (SELECT created_position, due_at
                 FROM due_orders
                WHERE due_at <= moment.at
                  AND created_position <> ALL (%b::bigint[])
                ORDER BY due_at
                LIMIT %b::bigint) d
        CROSS JOIN LATERAL (
              SELECT *
                FROM order_queue
               WHERE created_position BETWEEN d.created_position AND d.created_position
               ORDER BY created_position
               LIMIT 1) q
        CROSS JOIN LATERAL (
              SELECT array_agg(u.sequence_number ORDER BY u.sequence_number) AS sequence_numbers,
                     array_agg(u.quantity ORDER BY u.sequence_number) AS quantities,
                     array_agg(u.scheduled_at ORDER BY u.sequence_number) AS times
                FROM (SELECT sequence_number, quantity, scheduled_at,
                             lag(scheduled_at) OVER (ORDER BY sequence_number) AS previous_at
                        FROM scheduled_slices
                       WHERE created_position = d.created_position
                         AND sequence_number > length(q.settled)) u
               WHERE u.previous_at IS NULL
                  OR u.previous_at <= moment.at) s
        ORDER BY d.due_at) o ON true

-- Slices after a place in time, in order of time, each with what it needs of its order.
SELECT s.created_position, q.order_id, q.instrument, q.side, s.sequence_number, s.quantity,
       s.scheduled_at
  FROM (SELECT *
          FROM scheduled_slices
         WHERE (scheduled_at, created_position)
               > (%(scheduled_at)b::timestamptz, %(created_position)b::bigint)
           AND scheduled_at < %(scheduled_before)b::timestamptz
         ORDER BY scheduled_at, created_position
         LIMIT %(rows)b::bigint) s
  JOIN order_queue q USING (created_position)
 ORDER BY s.scheduled_at, s.created_position

-- Slices after a cursor, by time, each with the fields of its order that tell whether and when it is
-- released. The order is looked up by an index range, so that no plan reads all orders for a page.
SELECT s.created_position, q.order_id, q.order_unique_key, q.instrument, q.side, q.placed_by, q.release,
       s.sequence_number, s.quantity, s.scheduled_at, slice_state(q.settled, s.sequence_number)
  FROM (SELECT *
          FROM scheduled_slices
         WHERE (scheduled_at, created_position)
               > (%(scheduled_at)b::timestamptz, %(created_position)b::bigint)
           AND scheduled_at < %(scheduled_before)b::timestamptz
         ORDER BY scheduled_at, created_position
         LIMIT %(rows)b::bigint) s
 CROSS JOIN LATERAL (
       SELECT *
         FROM order_queue
        WHERE created_position BETWEEN s.created_position AND s.created_position
        ORDER BY created_position
        LIMIT 1) q
 ORDER BY s.scheduled_at, s.created_position

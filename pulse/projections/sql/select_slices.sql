-- Slices after a cursor, by time, each with the projected position and the fields of its order that
-- the list shows.
SELECT (SELECT notification_id
          FROM notification_tracking
         WHERE application_name = %(projection)b) AS as_of_position,
       s.created_position, q.order_id, q.instrument, q.side, s.sequence_number, s.quantity,
       s.scheduled_at, slice_state(q.settled, s.sequence_number)
  FROM (SELECT *
          FROM scheduled_slices
         WHERE (scheduled_at, created_position)
               > (%(scheduled_at)b::timestamptz, %(created_position)b::bigint)
           AND scheduled_at < %(scheduled_before)b::timestamptz
         ORDER BY scheduled_at, created_position
         LIMIT %(rows)b::bigint) s
  JOIN order_queue q USING (created_position)
 ORDER BY s.scheduled_at, s.created_position

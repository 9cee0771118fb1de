-- Slices after a place in time, in order of time.
SELECT order_id, instrument, side, sequence_number, quantity, scheduled_at
  FROM order_slices
 WHERE (scheduled_at, order_id, sequence_number)
       > (%(scheduled_at)b::timestamptz, %(order_id)b::uuid, %(sequence_number)b::integer)
   AND scheduled_at < %(scheduled_before)b::timestamptz
 ORDER BY scheduled_at, order_id, sequence_number
 LIMIT %(rows)b::bigint

-- The slices of orders completed in this batch; instrument and side come from the order's own row.
INSERT INTO order_slices (order_id, sequence_number, instrument, side, quantity, scheduled_at)
SELECT s.order_id, s.sequence_number, q.instrument, q.side, s.quantity, s.scheduled_at
  FROM unnest(%b::uuid[], %b::integer[], %b::bigint[], %b::timestamptz[])
       AS s (order_id, sequence_number, quantity, scheduled_at)
  JOIN order_queue q USING (order_id)

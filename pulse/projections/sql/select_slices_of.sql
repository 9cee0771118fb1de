-- The slices of some orders, an array a column.
SELECT order_id,
       array_agg(sequence_number ORDER BY sequence_number),
       array_agg(quantity ORDER BY sequence_number),
       array_agg(scheduled_at ORDER BY sequence_number)
  FROM order_slices
 WHERE order_id = ANY (%b::uuid[])
 GROUP BY order_id

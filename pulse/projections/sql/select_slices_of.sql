-- The slices of some orders, by position of creation; one array per column.
SELECT created_position,
       array_agg(sequence_number ORDER BY sequence_number),
       array_agg(quantity ORDER BY sequence_number),
       array_agg(scheduled_at ORDER BY sequence_number)
  FROM scheduled_slices
 WHERE created_position = ANY (%b::bigint[])
 GROUP BY created_position

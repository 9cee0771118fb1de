-- When orders are due: those at some positions of creation, and all in a window of such positions.
SELECT created_position, due_at
  FROM due_orders
 WHERE created_position > %(after)b::bigint
   AND created_position <= %(until)b::bigint
 UNION ALL
SELECT created_position, due_at
  FROM due_orders
 WHERE created_position = ANY (%(positions)b::bigint[])

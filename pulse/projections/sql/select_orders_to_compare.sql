-- The queue's rows of some orders, and of any other orders in a window of positions of creation.
SELECT {columns}
  FROM order_queue
 WHERE order_id = ANY (%(order_ids)b::uuid[])
 UNION ALL
SELECT {columns}
  FROM order_queue
 WHERE created_position > %(after)b::bigint
   AND created_position <= %(until)b::bigint
   AND order_id <> ALL (%(order_ids)b::uuid[])

-- Candidates of find_orders: all orders, newest first.
SELECT *
  FROM order_queue
 WHERE created_position < %(before)b::bigint
   AND created_position >= %(since)b::bigint
 ORDER BY created_position DESC

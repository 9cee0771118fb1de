-- Candidates of find_orders: the order with an id.
SELECT *
  FROM order_queue
 WHERE order_id = %(order_id)b::uuid
   AND created_position < %(before)b::bigint
   AND created_position >= %(since)b::bigint

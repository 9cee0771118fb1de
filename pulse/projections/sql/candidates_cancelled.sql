-- Candidates of find_orders: CANCELLED orders, newest first.
SELECT *
  FROM order_queue
 WHERE cancelled_unsplit
   AND created_position < %(before)b::bigint
   AND created_position >= %(since)b::bigint
 ORDER BY created_position DESC

-- Candidates of find_orders: FAILED orders, newest first.
SELECT *
  FROM order_queue
 WHERE failure_reason IS NOT NULL
   AND created_position < %(before)b::bigint
   AND created_position >= %(since)b::bigint
 ORDER BY created_position DESC

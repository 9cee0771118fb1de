-- Candidates of find_orders: orders without an outcome, newest first.
SELECT o.*
  FROM pending_orders w
 CROSS JOIN LATERAL (
       SELECT *
         FROM order_queue
        WHERE created_position BETWEEN w.created_position AND w.created_position
        ORDER BY created_position
        LIMIT 1) o
 WHERE w.created_position < %(before)b::bigint
   AND w.created_position >= %(since)b::bigint
 ORDER BY w.created_position DESC

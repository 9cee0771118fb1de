-- The orders that have been parked for the longest time, each with its key and its instrument if
-- the queue has it. They have no index by time: all are read and sorted, since there are few.
SELECT p.order_id, p.position, p.reason, p.parked_at, q.order_unique_key, q.instrument
  FROM (SELECT *
          FROM parked_orders
         ORDER BY parked_at, order_id
         LIMIT %(rows)b::bigint) p
  LEFT JOIN LATERAL (
       SELECT order_unique_key, instrument
         FROM order_queue
        WHERE order_id = p.order_id
        OFFSET 0) q ON true
 ORDER BY p.parked_at, p.order_id

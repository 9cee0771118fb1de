-- Candidates of find_orders: the orders of an instrument, newest first. A range, not an equality:
-- so only the index by instrument returns rows in the page's order.
SELECT *
  FROM order_queue
 WHERE (instrument, created_position) < (%(instrument)b::text, %(before)b::bigint)
   AND (instrument, created_position) >= (%(instrument)b::text, %(since)b::bigint)
 ORDER BY instrument DESC, created_position DESC

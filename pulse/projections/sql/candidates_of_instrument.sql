-- Candidates of find_orders: the orders of an instrument, newest first. A range instead of an equality,
-- so that only the index by instrument has the order of the page.
SELECT *
  FROM order_queue
 WHERE (instrument, created_position) < (%(instrument)b::text, %(before)b::bigint)
   AND (instrument, created_position) >= (%(instrument)b::text, %(since)b::bigint)
 ORDER BY instrument DESC, created_position DESC

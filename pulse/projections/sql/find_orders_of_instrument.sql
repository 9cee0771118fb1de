-- The same of one instrument, written as a stretch of an index and not as an equality: only an
-- index by instrument has this order, whatever the planner believes about how many there are.
SELECT q.*
  FROM order_queue q
 WHERE (q.instrument, q.created_position) < (%(instrument)b::text, %(before)b::bigint)
   AND q.instrument >= %(instrument)b::text
   /* filter */
 ORDER BY q.instrument DESC, q.created_position DESC
 LIMIT %(rows)b::bigint

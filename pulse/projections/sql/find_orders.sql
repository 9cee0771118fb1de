-- Orders before a position of creation, newest first.
SELECT q.*
  FROM order_queue q
 WHERE q.created_position < %(before)b::bigint
   /* filter */
 ORDER BY q.created_position DESC
 LIMIT %(rows)b::bigint

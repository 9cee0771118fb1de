-- The orders of a window that differ between the rebuilt tables and the live ones: in their row, in a
-- slice, or in the event at which they are parked; and orders that the live queue has in the window
-- and the log has not.
INSERT INTO differing
SELECT order_id
  FROM order_queue r
  FULL JOIN (SELECT * FROM {live}.order_queue WHERE order_id = ANY (%(order_ids)b::uuid[])) l
       USING (order_id)
 WHERE r IS DISTINCT FROM l
 UNION
SELECT order_id
  FROM order_slices r
  FULL JOIN (SELECT * FROM {live}.order_slices WHERE order_id = ANY (%(order_ids)b::uuid[])) l
       USING (order_id, sequence_number)
 WHERE r IS DISTINCT FROM l
 UNION
SELECT order_id
  FROM parked_orders r
  FULL JOIN (SELECT * FROM {live}.parked_orders WHERE order_id = ANY (%(order_ids)b::uuid[])) l
       USING (order_id)
 WHERE r.position IS DISTINCT FROM l.position
 UNION
SELECT order_id
  FROM {live}.order_queue
 WHERE created_position > %(after)b::bigint
   AND created_position <= %(until)b::bigint
   AND order_id <> ALL (%(order_ids)b::uuid[])

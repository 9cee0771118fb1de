-- Views on the queue's tables that are not Pulse's own: they would go with the tables they are on.
SELECT DISTINCT v.oid::regclass::text
  FROM pg_depend d
  JOIN pg_rewrite r ON r.oid = d.objid
  JOIN pg_class v ON v.oid = r.ev_class
 WHERE d.classid = 'pg_rewrite'::regclass
   AND d.refobjid IN (
       'order_queue'::regclass, 'order_slices'::regclass, 'parked_orders'::regclass)
   AND v.oid <> 'order_queue_status'::regclass
 ORDER BY 1

-- Columns of the queue's tables (as table.column) that are not in this list.
SELECT c.relname || '.' || a.attname
  FROM pg_class c
  JOIN pg_attribute a ON a.attrelid = c.oid
 WHERE c.oid IN ('order_queue'::regclass, 'pending_orders'::regclass,
                 'scheduled_slices'::regclass)
   AND a.attnum > 0
   AND NOT a.attisdropped
   AND a.attgenerated = ''
   AND c.relname || '.' || a.attname <> ALL (%b::text[])

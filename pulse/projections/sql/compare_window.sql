-- The differences between log and queue in a window of projected positions, by the position of the
-- order's creation.
-- MISSING: an order was created and is neither in the queue nor parked; or is PENDING in order_queue
-- and not in pending_orders; or has slices to release and is not in due_orders.
-- OUTDATED: an order has unsettled slices or no outcome in order_queue, is not parked, and has a
-- later event in the log; or it has an outcome in order_queue and is still in pending_orders.
-- UNLOGGED: an order is in the queue, and the log lacks its creation, or the latest event that the
-- queue has applied.
-- Both sides are read by an index on the position, so that the size of the window limits the cost.
SELECT s.notification_id, s.originator_id, 'MISSING'
  FROM recorded_events() s
 WHERE s.notification_id > %(after)b::bigint
   AND s.notification_id <= %(until)b::bigint
   AND s.originator_version = 1
   AND s.topic = %(created)b::text
   AND NOT EXISTS (
       SELECT FROM order_queue q
        WHERE q.created_position > %(after)b::bigint
          AND q.created_position <= %(until)b::bigint
          AND q.created_position = s.notification_id
          AND q.order_id = s.originator_id
          AND CASE
              WHEN q.state = 'PENDING' THEN
                   EXISTS (SELECT
                             FROM pending_orders p
                            WHERE p.created_position = q.created_position
                              AND p.order_id = q.order_id)
              WHEN q.state = 'COMPLETED' AND q.release AND length(q.settled) < q.num_splits THEN
                   EXISTS (SELECT FROM due_orders d WHERE d.created_position = q.created_position)
              ELSE true END)
   AND NOT EXISTS (SELECT FROM parked_orders p WHERE p.order_id = s.originator_id)
 UNION ALL
SELECT q.created_position, q.order_id, 'OUTDATED'
  FROM order_queue q
 CROSS JOIN LATERAL (
       SELECT s.topic
         FROM recorded_events() s
        WHERE s.originator_id = q.order_id
          AND s.originator_version > q.version
          AND s.notification_id <= %(projected)b::bigint
        ORDER BY s.originator_version
        LIMIT 1) unapplied
 WHERE (q.state = 'PENDING' OR q.state = 'COMPLETED' AND length(q.settled) < q.num_splits)
   AND q.created_position > %(after)b::bigint
   AND q.created_position <= %(until)b::bigint
   AND unapplied.topic = ANY (%(later_topics)b::text[])
   AND NOT EXISTS (SELECT FROM parked_orders p WHERE p.order_id = q.order_id)
 UNION ALL
SELECT q.created_position, q.order_id, 'OUTDATED'
  FROM pending_orders p
  JOIN order_queue q USING (created_position)
 WHERE q.state <> 'PENDING'
   AND p.created_position > %(after)b::bigint
   AND p.created_position <= %(until)b::bigint
 UNION ALL
SELECT q.created_position, q.order_id, 'UNLOGGED'
  FROM order_queue q
 WHERE q.created_position > %(after)b::bigint
   AND q.created_position <= %(until)b::bigint
   AND NOT EXISTS (
       SELECT FROM recorded_events() s
        WHERE s.notification_id > %(after)b::bigint
          AND s.notification_id <= %(until)b::bigint
          AND s.notification_id = q.created_position
          AND s.originator_id = q.order_id)
 UNION ALL
SELECT q.created_position, q.order_id, 'UNLOGGED'
  FROM order_queue q
  LEFT JOIN LATERAL (
       SELECT s.originator_id
         FROM recorded_events() s
        WHERE s.notification_id = q.position
       OFFSET 0) latest ON true
 WHERE q.created_position > %(after)b::bigint
   AND q.created_position <= %(until)b::bigint
   AND q.position <> q.created_position
   AND latest.originator_id IS DISTINCT FROM q.order_id

-- Orders created before a position, newest first, each with its claim, and how far the projection has
-- read. One snapshot: no order is newer than that position, which comes also where no order is found.
-- Orders that do not meet the conditions are stepped over. A claim is looked up as a stretch of an index
-- too, so that no plan reads all pending orders for a page.
SELECT t.notification_id AS as_of_position, {columns}, p.claimed_by, p.claimed_at
  FROM notification_tracking t
  LEFT JOIN LATERAL (
       SELECT *
         FROM order_queue
        WHERE created_position < %(before)b::bigint
          AND {conditions}
        ORDER BY created_position DESC
        LIMIT %(rows)b::bigint) q ON true
  LEFT JOIN LATERAL (
       SELECT claimed_by, claimed_at
         FROM pending_orders
        WHERE q.state = 'PENDING'
          AND created_position BETWEEN q.created_position AND q.created_position
        ORDER BY created_position
        LIMIT 1) p ON true
 WHERE t.application_name = %(projection)b
 ORDER BY q.created_position DESC

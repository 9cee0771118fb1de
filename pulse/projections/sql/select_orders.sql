-- A page of orders that meet the conditions, newest first, each with its claim, and the projected
-- position. One snapshot: no order is newer than that position, which is returned even if there is
-- no order. A claim is looked up by an index range, so that no plan reads all pending orders for a
-- page.
SELECT t.notification_id AS as_of_position, {columns}, p.claimed_by, p.claimed_at
  FROM notification_tracking t
  LEFT JOIN LATERAL (
       SELECT *
         FROM order_queue
        WHERE {conditions}
        ORDER BY {order}
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

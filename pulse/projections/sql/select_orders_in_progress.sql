-- Orders in progress: from the claims, which are few, to their rows. Workers claim the oldest
-- orders, so the other way would go through the whole backlog, newest first, to find them.
SELECT t.notification_id AS as_of_position, {columns}, q.claimed_by, q.claimed_at
  FROM notification_tracking t
  LEFT JOIN LATERAL (
       SELECT o.*, c.claimed_by, c.claimed_at
         FROM order_claims c
        CROSS JOIN LATERAL (
              SELECT * FROM order_queue o WHERE o.order_id = c.order_id OFFSET 0) o
        WHERE order_status(o.state, c.claimed_by) = {state}
          AND o.created_position < %(before)b::bigint
          AND (%(instrument)b::text IS NULL OR o.instrument = %(instrument)b::text)
        ORDER BY o.created_position DESC
        LIMIT %(rows)b::bigint) q ON true
 WHERE t.application_name = %(projection)b
 ORDER BY q.created_position DESC

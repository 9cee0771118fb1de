-- Orders created before a position, newest first, each with its claim, and how far the projection has
-- read. One snapshot: no order is newer than that position, which comes also where no order is found.
SELECT t.notification_id AS as_of_position, {columns}, c.claimed_by, c.claimed_at
  FROM notification_tracking t
  LEFT JOIN LATERAL (
       SELECT *
         FROM order_queue
        WHERE created_position < %(before)b::bigint
        ORDER BY created_position DESC
        LIMIT %(rows)b::bigint) q ON true
  LEFT JOIN order_claims c ON c.order_id = q.order_id
 WHERE t.application_name = %(projection)b
 ORDER BY q.created_position DESC

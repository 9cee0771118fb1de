-- The same of one instrument too, written as a stretch of an index and not as an equality: only an
-- index by instrument has this order, whatever the planner believes about how many there are.
SELECT t.notification_id AS as_of_position, {columns}, q.claimed_by, q.claimed_at
  FROM notification_tracking t
  LEFT JOIN LATERAL (
       SELECT o.*, c.claimed_by, c.claimed_at
         FROM order_queue o
         LEFT JOIN order_claims c USING (order_id)
        WHERE o.state = {state}
          AND order_status(o.state, c.claimed_by) = {state}
          AND (o.instrument, o.created_position) < (%(instrument)b::text, %(before)b::bigint)
          AND o.instrument >= %(instrument)b::text
        ORDER BY o.instrument DESC, o.created_position DESC
        LIMIT %(rows)b::bigint) q ON true
 WHERE t.application_name = %(projection)b
 ORDER BY q.created_position DESC

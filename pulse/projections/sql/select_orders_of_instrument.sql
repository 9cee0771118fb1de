-- The same of one instrument, written as a stretch of an index and not as an equality: only an index
-- by instrument has this order, whatever the planner believes about how many there are.
SELECT t.notification_id AS as_of_position, {columns}, p.claimed_by, p.claimed_at
  FROM notification_tracking t
  LEFT JOIN LATERAL (
       SELECT *
         FROM order_queue
        WHERE (instrument, created_position) < (%(instrument)b::text, %(before)b::bigint)
          AND instrument >= %(instrument)b::text
          AND {conditions}
        ORDER BY instrument DESC, created_position DESC
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

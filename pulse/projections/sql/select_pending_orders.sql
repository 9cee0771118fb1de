-- As select_orders, for the status PENDING or IN_PROGRESS, of one instrument or all: reads
-- pending_orders and looks up their rows in order_queue.
SELECT t.notification_id AS as_of_position, {columns}, q.claimed_by, q.claimed_at
  FROM notification_tracking t
  LEFT JOIN LATERAL (
       SELECT o.*, p.claimed_by, p.claimed_at
         FROM pending_orders p
        CROSS JOIN LATERAL (
              SELECT *
                FROM order_queue
               WHERE created_position BETWEEN p.created_position AND p.created_position
               ORDER BY created_position
               LIMIT 1) o
        WHERE order_status('PENDING', p.claimed_by) = {status}
          AND p.created_position < %(before)b::bigint
          AND (%(instrument)b::text IS NULL OR p.instrument = %(instrument)b::text)
        ORDER BY p.created_position DESC
        LIMIT %(rows)b::bigint) q ON true
 WHERE t.application_name = %(projection)b
 ORDER BY q.created_position DESC

-- Write the outcomes of orders that an earlier batch created, and delete them from the pending
-- orders, which ends their claims.
WITH updated AS (
    UPDATE order_queue q
       SET state = o.state,
           failure_reason = o.failure_reason,
           failure_message = o.failure_message,
           version = o.version,
           position = o.position,
           updated_at = o.updated_at,
           split_completed_at = o.split_completed_at,
           settled = o.settled,
           released_quantity = o.released_quantity,
           cancelled_quantity = CASE o.state WHEN 'CANCELLED' THEN q.total_quantity
                                             ELSE o.cancelled_quantity END,
           expired_quantity = CASE o.state WHEN 'FAILED' THEN q.total_quantity
                                           ELSE o.expired_quantity END
      FROM json_populate_recordset(NULL::order_queue, %s::json) o
     WHERE q.order_id = o.order_id
       AND q.state = 'PENDING'
       AND (q.release OR o.released_quantity + o.expired_quantity = 0)
    RETURNING q.order_id, q.created_position, q.release AND q.state = 'COMPLETED' AS releases
), ended AS (
    DELETE FROM pending_orders p USING updated u WHERE p.created_position = u.created_position
)
SELECT order_id, created_position, releases FROM updated

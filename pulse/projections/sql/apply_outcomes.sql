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
           split_completed_at = o.split_completed_at
      FROM json_populate_recordset(NULL::order_queue, %s::json) o
     WHERE q.order_id = o.order_id
       AND q.state = 'PENDING'
    RETURNING q.order_id, q.created_position
), ended AS (
    DELETE FROM pending_orders p USING updated u WHERE p.created_position = u.created_position
)
SELECT order_id, created_position FROM updated

-- Outcomes of orders that an earlier batch created.
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

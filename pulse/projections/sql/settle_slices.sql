-- Write what became of slices of orders that an earlier batch split. A change applies only to the
-- version it follows, and only to the next slices of its order.
UPDATE order_queue q
   SET settled = q.settled || c.settled,
       released_quantity = q.released_quantity + c.released_quantity,
       cancelled_quantity = q.cancelled_quantity + c.cancelled_quantity,
       expired_quantity = q.expired_quantity + c.expired_quantity,
       version = c.version,
       position = c.position,
       updated_at = c.updated_at
  FROM json_to_recordset(%s::json) AS c (
           order_id uuid, after_version bigint, after_slice integer, settled text,
           released_quantity bigint, cancelled_quantity bigint, expired_quantity bigint,
           version bigint, position bigint, updated_at timestamptz)
 WHERE q.order_id = c.order_id
   AND q.state = 'COMPLETED'
   AND q.version = c.after_version
   AND length(q.settled) = c.after_slice
   AND (q.release OR c.released_quantity + c.expired_quantity = 0)
RETURNING q.created_position, q.release

-- Write the states of slices of orders that an earlier batch split. A change applies only to the
-- version it follows, and only to the next slices of its order. The order's row in due_orders is
-- updated, or deleted if nothing is left to release. Returns the number of changes that applied,
-- and the positions of creation of the orders that have slices to release but no row in due_orders.
WITH settled AS (
    UPDATE order_queue q
       SET settled = q.settled || c.settled,
           released_quantity = q.released_quantity + c.released_quantity,
           cancelled_quantity = q.cancelled_quantity + c.cancelled_quantity,
           expired_quantity = q.expired_quantity + c.expired_quantity,
           version = c.version,
           position = c.position,
           updated_at = c.updated_at
      FROM json_to_recordset(%(changes)b::json) AS c (
               order_id uuid, after_version bigint, after_slice integer, settled text,
               released_quantity bigint, cancelled_quantity bigint, expired_quantity bigint,
               version bigint, position bigint, updated_at timestamptz)
     WHERE q.order_id = c.order_id
       AND q.state = 'COMPLETED'
       AND q.version = c.after_version
       AND length(q.settled) = c.after_slice
       AND (q.release OR c.released_quantity + c.expired_quantity = 0)
    RETURNING q.created_position, q.release, q.settled, q.updated_at
), due AS MATERIALIZED (
    SELECT q.created_position, next.due_at
      FROM settled q
      LEFT JOIN LATERAL ({due_at}) next ON true
     WHERE q.release
), deleted AS (
    DELETE FROM due_orders d
     USING due
     WHERE d.created_position = due.created_position
       AND due.due_at IS NULL
), updated AS (
    UPDATE due_orders d
       SET due_at = due.due_at
      FROM due
     WHERE d.created_position = due.created_position
       AND due.due_at IS NOT NULL
    RETURNING d.created_position
)
SELECT (SELECT count(*) FROM settled),
       ARRAY(SELECT created_position
               FROM due
              WHERE due_at IS NOT NULL
                AND created_position NOT IN (SELECT created_position FROM updated))

-- New orders, as they are at the end of the batch, and those of them that are pending; a column that
-- this code does not know keeps its default. An order that is built again may still be among the
-- pending ones, with its claim.
WITH created AS (
    INSERT INTO order_queue ({columns})
    SELECT {columns} FROM json_populate_recordset(NULL::order_queue, %s::json)
    RETURNING created_position, order_id, created_at, splitter_version, instrument, state
)
INSERT INTO pending_orders (created_position, order_id, created_at, splitter_version, instrument)
SELECT created_position, order_id, created_at, splitter_version, instrument
  FROM created c
 WHERE state = 'PENDING'
   AND NOT EXISTS (SELECT FROM pending_orders p WHERE p.created_position = c.created_position)

-- Insert new orders as they are at the end of the batch, and the pending ones into pending_orders.
-- A column that this code does not know gets its default. An order that is rebuilt may still be in
-- pending_orders, with its claim.
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

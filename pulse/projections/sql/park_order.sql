-- Park an order because an event of it cannot be applied, and release no more of it. An order that
-- is parked already keeps the first event and reason.
WITH undue AS (
    DELETE FROM due_orders d
     USING order_queue q
     WHERE q.order_id = %(order_id)b::uuid
       AND d.created_position = q.created_position
)
INSERT INTO parked_orders (order_id, position, reason)
VALUES (%(order_id)b::uuid, %(position)b::bigint, %(reason)b::text)
    ON CONFLICT (order_id) DO NOTHING

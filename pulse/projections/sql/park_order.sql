-- Park an order because one of its events cannot be applied, so that none of its slices is
-- released. An order that is parked already keeps its first event and reason.
WITH undue AS (
    DELETE FROM due_orders d
     USING order_queue q
     WHERE q.order_id = %(order_id)b::uuid
       AND d.created_position = q.created_position
)
INSERT INTO parked_orders (order_id, position, reason)
VALUES (%(order_id)b::uuid, %(position)b::bigint, %(reason)b::text)
    ON CONFLICT (order_id) DO NOTHING

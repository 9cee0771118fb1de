-- Park an order because an event of it cannot be applied. An order that is parked already keeps the
-- first event and reason.
INSERT INTO parked_orders (order_id, position, reason) VALUES (%b, %b, %b)
    ON CONFLICT (order_id) DO NOTHING

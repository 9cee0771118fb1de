-- Set an order aside: this event of it cannot be applied. The first fault is the one to repair.
INSERT INTO parked_orders (order_id, position, reason) VALUES (%b, %b, %b)
    ON CONFLICT (order_id) DO NOTHING

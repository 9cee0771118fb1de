-- The parked orders, the longest parked first.
SELECT order_id, position, reason, parked_at FROM parked_orders ORDER BY parked_at, order_id

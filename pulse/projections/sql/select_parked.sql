-- The orders that are set aside, the longest first.
SELECT order_id, position, reason, parked_at FROM parked_orders ORDER BY parked_at, order_id

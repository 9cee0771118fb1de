-- Which of these orders are parked.
SELECT order_id, position FROM parked_orders WHERE order_id = ANY (%b::uuid[])

-- The position of creation of the newest order in the queue; 0 if it is empty.
SELECT COALESCE(max(created_position), 0) FROM order_queue

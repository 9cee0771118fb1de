-- Record that a worker stops, or continues under another name. It still holds its presence lock.
DELETE FROM order_workers WHERE name = %s

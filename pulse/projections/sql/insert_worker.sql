-- Record that a worker is present. It holds its presence lock already.
INSERT INTO order_workers (name) VALUES (%s)
ON CONFLICT (name) DO UPDATE SET present_since = clock_timestamp()

-- The workers that have started and not yet stopped. A worker inserts its name once it holds its
-- presence lock and deletes it before it releases the lock. So a name without a lock is that of a
-- worker that was killed, is frozen, or has lost its connection.
CREATE TABLE order_workers (
    name text PRIMARY KEY,
    present_since timestamptz NOT NULL DEFAULT clock_timestamp()
);

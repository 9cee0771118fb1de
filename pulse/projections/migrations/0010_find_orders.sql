-- Indexes to find the orders of a trace and of a caller, newest first (docs/decisions/0026).

-- The key of a value: the bucket of a position, and a hash of the value. 262,144 positions are a bucket,
-- so new entries go to the few pages of the newest bucket, however random the values are, and a checkpoint
-- does not cause a full-page image per order. A search looks in each bucket, newest first. The hash keeps
-- an entry at 24 bytes, however long the value is; a search compares the value too. The planner inlines
-- the function.
CREATE FUNCTION search_key(created_position bigint, value text) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (created_position >> 18) << 32 | (hashtext(value)::bigint & 4294967295);

-- As with the other indexes, the only updates that write to these are a failure, and a cancellation before
-- the split.
CREATE INDEX order_queue_trace_idx
    ON order_queue (search_key(created_position, trace_id), created_position);
CREATE INDEX order_queue_placed_by_idx
    ON order_queue (search_key(created_position, placed_by), created_position);

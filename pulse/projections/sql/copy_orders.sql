-- New orders, as they stand at the end of the batch, into tables that nobody else waits for.
COPY order_queue (
    order_id, order_unique_key, key_scope, placed_by, instrument, side, total_quantity, num_splits,
    duration_minutes, randomize, splitter_version, state, failure_reason, failure_message, version,
    position, created_position, created_at, updated_at, split_completed_at)
FROM STDIN (FORMAT binary)

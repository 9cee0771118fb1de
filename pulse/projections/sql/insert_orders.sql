-- New orders, as they stand at the end of the batch.
INSERT INTO order_queue (
    order_id, order_unique_key, key_scope, placed_by, instrument, side, total_quantity, num_splits,
    duration_minutes, randomize, splitter_version, state, failure_reason, failure_message, version,
    position, created_position, created_at, updated_at, split_completed_at)
SELECT *
  FROM unnest(
    %b::uuid[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::bigint[],
    %b::integer[], %b::integer[], %b::boolean[], %b::integer[], %b::text[], %b::text[], %b::text[],
    %b::bigint[], %b::bigint[], %b::bigint[], %b::timestamptz[], %b::timestamptz[],
    %b::timestamptz[])

-- The slices of orders completed in this batch, each with its order's instrument and side.
COPY order_slices (order_id, sequence_number, instrument, side, quantity, scheduled_at)
FROM STDIN (FORMAT binary)

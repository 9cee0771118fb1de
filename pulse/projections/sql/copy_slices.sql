-- The slices of orders completed in this batch.
COPY scheduled_slices (created_position, scheduled_at, quantity, sequence_number)
FROM STDIN (FORMAT binary)

-- Insert the slices of the orders that this batch completes.
COPY scheduled_slices (created_position, scheduled_at, quantity, sequence_number)
FROM STDIN (FORMAT binary)

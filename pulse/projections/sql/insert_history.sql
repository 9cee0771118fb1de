-- Store the sums of a window.
INSERT INTO queue_history (
    until_position, max_recorded_at, pending, completed, failed, cancelled,
    remaining_quantity, released_quantity, cancelled_quantity, expired_quantity)
VALUES (%b::bigint, %b::timestamptz, %b::bigint, %b::bigint, %b::bigint, %b::bigint,
        %b::numeric, %b::numeric, %b::numeric, %b::numeric)

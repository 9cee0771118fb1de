-- Which worker holds which order. A release keeps the row and sets claimed_by to null, because an
-- order's age counts from its first claim. Every order inserts and deletes a row, so the table
-- stays small.
CREATE TABLE order_claims (
    order_id uuid PRIMARY KEY,
    claimed_by text,
    claimed_at timestamptz,
    first_claimed_at timestamptz NOT NULL,
    CHECK ((claimed_by IS NULL) = (claimed_at IS NULL))
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);

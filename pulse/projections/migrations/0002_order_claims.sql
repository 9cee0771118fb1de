-- Which worker holds which order. A row outlives a release (claimed_by is then null), because an
-- order's age counts from its first claim. Rows come and go with every order: kept small and hot.
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

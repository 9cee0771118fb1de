-- One row per order, from its events alone. The view adds the claim. A row is updated once, by its
-- outcome.
CREATE TABLE order_queue (
    order_id uuid PRIMARY KEY,
    order_unique_key text NOT NULL,
    key_scope text NOT NULL,
    placed_by text NOT NULL,
    instrument text NOT NULL,
    side text NOT NULL,
    total_quantity bigint NOT NULL,
    num_splits integer NOT NULL,
    duration_minutes integer NOT NULL,
    randomize boolean NOT NULL,
    splitter_version integer NOT NULL,
    state text NOT NULL CHECK (state IN ('PENDING', 'COMPLETED', 'FAILED')),
    failure_reason text,
    failure_message text,
    version bigint NOT NULL,
    position bigint NOT NULL,
    created_position bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    split_completed_at timestamptz
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.02
);

-- The lists, newest first. A page must have the same cost with every filter, even if the newest
-- hundred thousand orders have another state. So each state has two partial indexes, without and
-- with the instrument, and a row is only in the two of its state. The list of all orders reads the
-- unique index. The list of one instrument merges the three states, since an index over all states
-- would need two more entries per order. The state is in the predicates, so an outcome is never a
-- HOT update: it adds an entry to each index, eight in the life of an order. Workers claim from the
-- PENDING index, which also determines IN_PROGRESS. A claim changes no row here, so it adds no
-- entry.
CREATE UNIQUE INDEX order_queue_created_position_idx ON order_queue (created_position);
CREATE INDEX order_queue_pending_idx ON order_queue (created_position) WHERE state = 'PENDING';
CREATE INDEX order_queue_completed_idx ON order_queue (created_position) WHERE state = 'COMPLETED';
CREATE INDEX order_queue_failed_idx ON order_queue (created_position) WHERE state = 'FAILED';
CREATE INDEX order_queue_pending_instrument_idx
    ON order_queue (instrument, created_position) WHERE state = 'PENDING';
CREATE INDEX order_queue_completed_instrument_idx
    ON order_queue (instrument, created_position) WHERE state = 'COMPLETED';
CREATE INDEX order_queue_failed_instrument_idx
    ON order_queue (instrument, created_position) WHERE state = 'FAILED';

-- A slice is written once and never changes.
CREATE TABLE order_slices (
    order_id uuid NOT NULL,
    sequence_number integer NOT NULL,
    instrument text NOT NULL,
    side text NOT NULL,
    quantity bigint NOT NULL,
    scheduled_at timestamptz NOT NULL,
    PRIMARY KEY (order_id, sequence_number)
);

-- Slices by time. The time of a slice never changes, so pages of slices are exact.
CREATE INDEX order_slices_scheduled_at_idx
    ON order_slices (scheduled_at, order_id, sequence_number);

-- Parked orders: one of their events cannot be applied. They do not block other orders.
CREATE TABLE parked_orders (
    order_id uuid PRIMARY KEY,
    position bigint NOT NULL,
    reason text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The library's single-row tracking table: how far each projection has read the log. The row is
-- also the lock that lets one process at a time project.
CREATE TABLE IF NOT EXISTS notification_tracking (
    application_name text,
    notification_id bigint,
    PRIMARY KEY (application_name)
) WITH (
    fillfactor = 10,
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 500,
    autovacuum_vacuum_cost_delay = 0
);

-- '__migration__' tells the library that the table has one row per application, not one per event.
INSERT INTO notification_tracking (application_name, notification_id)
VALUES ('__migration__', 1), ('order_queue', 0);

CREATE VIEW order_queue_status AS
SELECT q.order_id,
       q.order_unique_key,
       q.key_scope,
       q.placed_by,
       q.instrument,
       q.side,
       q.total_quantity,
       q.num_splits,
       q.duration_minutes,
       q.randomize,
       CASE WHEN q.state = 'PENDING' AND c.claimed_by IS NOT NULL THEN 'IN_PROGRESS' ELSE q.state
       END AS order_queue_status,
       q.failure_reason,
       q.failure_message,
       q.version,
       q.position,
       q.created_position,
       q.created_at,
       q.updated_at,
       q.split_completed_at,
       CASE WHEN q.state = 'PENDING' THEN c.claimed_by END AS claimed_by,
       CASE WHEN q.state = 'PENDING' THEN c.claimed_at END AS claimed_at,
       CASE WHEN q.state = 'PENDING' THEN c.first_claimed_at END AS first_claimed_at
  FROM order_queue q
  LEFT JOIN order_claims c USING (order_id);

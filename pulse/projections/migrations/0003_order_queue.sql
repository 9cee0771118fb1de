-- One row an order, built from the log alone. Only what the events say: a claim is laid over in the
-- view. A row is updated once, by its outcome.
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

-- The lists, newest first. Every filter must cost a page wherever it stands, also when the newest
-- hundred thousand orders are of another state: so each state has a pair of its own, without and
-- with the instrument, and a row is only in the pair of the state it has. The whole list reads the
-- unique index; one instrument's merges the three states, which costs nothing to keep, where an
-- index over all of them would take two more entries an order. State stands in the predicates, so
-- an outcome is never a HOT update: it adds an entry to each index, eight in an order's life.
-- PENDING is also what workers claim from and what IN_PROGRESS is judged by; a claim changes no row
-- here, so it costs no entry.
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

-- Slices by time. The place of a slice never changes, so pages of slices are exact.
CREATE INDEX order_slices_scheduled_at_idx
    ON order_slices (scheduled_at, order_id, sequence_number);

-- Orders set aside because one of their events cannot be applied; they stop no other.
CREATE TABLE parked_orders (
    order_id uuid PRIMARY KEY,
    position bigint NOT NULL,
    reason text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The library's single-row tracking table: how far each projection has read the log. The row is
-- also the lock that keeps a projection single-file.
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

-- '__migration__' tells the library that the table has one row an application, not one an event.
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

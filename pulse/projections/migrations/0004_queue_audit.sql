-- One row per projection: the position up to which the current pass of the audit has compared log and
-- queue, when the next window is due, and when the last complete pass ended. The row is also the lock
-- that lets one process audit at a time.
CREATE TABLE queue_audit (
    application_name text PRIMARY KEY,
    position bigint NOT NULL,
    due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_pass_at timestamptz
);

INSERT INTO queue_audit (application_name, position) VALUES ('order_queue', 0);

-- The differences between log and queue, by the position of the order's creation.
CREATE TABLE queue_audit_findings (
    position bigint NOT NULL,
    order_id uuid NOT NULL,
    fault text NOT NULL CHECK (fault IN ('MISSING', 'OUTDATED', 'UNLOGGED')),
    found_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (position, order_id)
);

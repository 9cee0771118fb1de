-- One row a projection: up to where the present pass of the audit has compared log and queue, when the
-- next window is due, and when the last whole pass ended. The row is also the lock that lets one
-- process audit at a time.
CREATE TABLE queue_audit (
    application_name text PRIMARY KEY,
    position bigint NOT NULL,
    due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_pass_at timestamptz
);

INSERT INTO queue_audit (application_name, position) VALUES ('order_queue', 0);

-- What log and queue disagree about: the position of the event, or of the creation that the queue
-- names and the log has not.
CREATE TABLE queue_audit_findings (
    position bigint NOT NULL,
    order_id uuid NOT NULL,
    fault text NOT NULL CHECK (fault IN ('MISSING', 'OUTDATED', 'UNLOGGED')),
    found_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (position, order_id)
);

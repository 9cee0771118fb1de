-- The states of the slices of each order, and when a releaser has to process the order
-- (docs/decisions/0023). The tables become empty, and the projection reads the log again from its
-- beginning. Processes of earlier code must have stopped.

-- Reset the projection and the audit. The update locks the position's row before the tables, as a
-- projector does, so no process projects until the commit.
UPDATE notification_tracking SET notification_id = 0 WHERE application_name = 'order_queue';
UPDATE queue_audit SET position = 0 WHERE application_name = 'order_queue';
DELETE FROM queue_audit_findings;
DELETE FROM parked_orders;
TRUNCATE order_queue, pending_orders, scheduled_slices;

-- `settled` has a letter for each slice that is settled, in the order of the slices: R for released, C for
-- cancelled, E for expired. Slices are settled one after the other, so its length is the number of the last
-- settled slice. An update of these columns is a HOT update, as COMPLETED is.
ALTER TABLE order_queue
    ADD COLUMN trace_id text NOT NULL DEFAULT '',
    ADD COLUMN release boolean NOT NULL DEFAULT false,
    ADD COLUMN released_quantity bigint NOT NULL DEFAULT 0 CHECK (released_quantity >= 0),
    ADD COLUMN cancelled_quantity bigint NOT NULL DEFAULT 0 CHECK (cancelled_quantity >= 0),
    ADD COLUMN expired_quantity bigint NOT NULL DEFAULT 0 CHECK (expired_quantity >= 0),
    ADD COLUMN settled text NOT NULL DEFAULT '',
    ADD COLUMN cancelled_unsplit boolean GENERATED ALWAYS AS (NULLIF(state = 'CANCELLED', false)) STORED,
    DROP CONSTRAINT order_queue_state_check,
    ADD CONSTRAINT order_queue_state_check
        CHECK (state IN ('PENDING', 'COMPLETED', 'FAILED', 'CANCELLED')),
    ADD CONSTRAINT order_queue_settled_check
        CHECK (settled = '' OR state = 'COMPLETED' AND length(settled) <= num_splits),
    ADD CONSTRAINT order_queue_quantities_check
        CHECK (released_quantity + cancelled_quantity + expired_quantity <= total_quantity
               AND (released_quantity + cancelled_quantity + expired_quantity = total_quantity)
                   = (state IN ('FAILED', 'CANCELLED') OR length(settled) = num_splits));

-- For the list of CANCELLED orders. Its column is NULL for all others, so that it does not change when an
-- order is split.
CREATE INDEX order_queue_cancelled_idx ON order_queue (created_position) WHERE cancelled_unsplit;

-- The orders that have slices to release, and when a releaser has to process each. Rows are derived
-- from order_queue and scheduled_slices. A row exists from the split until the last slice is settled.
CREATE TABLE due_orders (
    created_position bigint PRIMARY KEY,
    due_at timestamptz NOT NULL
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX due_orders_due_at_idx ON due_orders (due_at);

-- The state of a slice, from its order's `settled`. This is the only definition in SQL.
CREATE FUNCTION slice_state(settled text, sequence_number integer) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE substr(settled, sequence_number, 1)
       WHEN 'R' THEN 'RELEASED' WHEN 'C' THEN 'CANCELLED' WHEN 'E' THEN 'EXPIRED' ELSE 'SCHEDULED' END;

CREATE OR REPLACE VIEW order_slices AS
SELECT q.order_id, s.sequence_number, q.instrument, q.side, s.quantity, s.scheduled_at,
       slice_state(q.settled, s.sequence_number) AS state
  FROM scheduled_slices s
  JOIN order_queue q USING (created_position);

-- The view has new columns at its end; its options, identity and grants stay. The new table has the owner
-- and the grants of pending_orders.
DO $$
DECLARE
    grants record;
    options text := (
        SELECT ' WITH (' || string_agg(format('%I = %L', o.option_name, o.option_value), ', ') || ')'
          FROM pg_class c CROSS JOIN pg_options_to_table(c.reloptions) o
         WHERE c.oid = 'order_queue_status'::regclass);
BEGIN
    EXECUTE format('CREATE OR REPLACE VIEW order_queue_status%s AS %s', COALESCE(options, ''), $view$
SELECT q.order_id,
       q.order_unique_key,
       q.scope AS key_scope,
       q.placed_by,
       q.instrument,
       q.side,
       q.total_quantity,
       q.num_splits,
       q.duration_minutes,
       q.randomize,
       order_status(q.state, p.claimed_by) AS order_queue_status,
       q.failure_reason,
       q.failure_message,
       q.version,
       q.position,
       q.created_position,
       q.created_at,
       q.updated_at,
       q.split_completed_at,
       p.claimed_by,
       p.claimed_at,
       p.first_claimed_at,
       q.release,
       q.total_quantity - q.released_quantity - q.cancelled_quantity - q.expired_quantity
           AS remaining_quantity,
       q.released_quantity,
       q.cancelled_quantity,
       q.expired_quantity,
       q.trace_id
  FROM order_queue q
  LEFT JOIN pending_orders p USING (created_position)$view$);
    EXECUTE format('ALTER TABLE due_orders OWNER TO %s',
                   (SELECT relowner::regrole::text FROM pg_class
                     WHERE oid = 'pending_orders'::regclass));
    FOR grants IN
        SELECT a.privilege_type, a.is_grantable,
               CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS grantee
          FROM pg_class c CROSS JOIN aclexplode(c.relacl) a
         WHERE c.oid = 'pending_orders'::regclass
           AND a.grantee <> c.relowner
           AND a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
    LOOP
        EXECUTE format('GRANT %s ON due_orders TO %s%s', grants.privilege_type, grants.grantee,
                       CASE WHEN grants.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
    END LOOP;
END
$$;

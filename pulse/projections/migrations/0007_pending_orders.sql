-- New tables of the order queue (docs/decisions/0022). They start empty, and the projection reads the
-- log again from its beginning. Processes of earlier code must have stopped.

-- Reset the projection and the audit. The update locks the position's row before the tables, as a
-- projector does, so no process projects until the commit.
UPDATE notification_tracking SET notification_id = 0 WHERE application_name = 'order_queue';
UPDATE queue_audit SET position = 0 WHERE application_name = 'order_queue';
DELETE FROM queue_audit_findings;
DELETE FROM parked_orders;

-- The view's options, to set them again below.
CREATE TEMPORARY TABLE pg_temp.view_options ON COMMIT DROP AS
SELECT string_agg(format('%I = %L', o.option_name, o.option_value), ', ') AS options
  FROM pg_class c CROSS JOIN pg_options_to_table(c.reloptions) o
 WHERE c.oid = 'order_queue_status'::regclass;

-- Detach the view from the tables, so that it keeps its identity, its grants and its dependents.
CREATE OR REPLACE VIEW order_queue_status AS
SELECT NULL::uuid AS order_id, NULL::text AS order_unique_key, NULL::text AS key_scope,
       NULL::text AS placed_by, NULL::text AS instrument, NULL::text AS side,
       NULL::bigint AS total_quantity, NULL::integer AS num_splits,
       NULL::integer AS duration_minutes, NULL::boolean AS randomize,
       NULL::text AS order_queue_status, NULL::text AS failure_reason,
       NULL::text AS failure_message, NULL::bigint AS version, NULL::bigint AS position,
       NULL::bigint AS created_position, NULL::timestamptz AS created_at,
       NULL::timestamptz AS updated_at, NULL::timestamptz AS split_completed_at,
       NULL::text AS claimed_by, NULL::timestamptz AS claimed_at,
       NULL::timestamptz AS first_claimed_at;

-- The owner and the grants of the tables, to set them on the new tables below.
CREATE TEMPORARY TABLE pg_temp.owned ON COMMIT DROP AS
SELECT relowner FROM pg_class WHERE oid = 'order_queue'::regclass;
CREATE TEMPORARY TABLE pg_temp.granted ON COMMIT DROP AS
SELECT c.relname, a.grantee, a.privilege_type, a.is_grantable
  FROM pg_class c CROSS JOIN aclexplode(c.relacl) a
 WHERE c.oid IN ('order_queue'::regclass, 'order_slices'::regclass, 'order_claims'::regclass)
   AND a.grantee <> c.relowner;

DROP TABLE order_queue, order_slices, order_claims;

-- One row per order, from its events alone. The columns that the outcome writes come last. COMPLETED
-- changes no indexed column, and the fillfactor leaves room for a second, slightly longer version of each
-- row: so it is a HOT update, which writes to no index. A failure changes failure_reason and writes to
-- each index. The column of the key's scope has a new name, so that a process of earlier code cannot write
-- orders here.
CREATE TABLE order_queue (
    order_id uuid PRIMARY KEY,
    created_position bigint NOT NULL,
    total_quantity bigint NOT NULL,
    created_at timestamptz NOT NULL,
    num_splits integer NOT NULL,
    duration_minutes integer NOT NULL,
    splitter_version integer NOT NULL,
    randomize boolean NOT NULL,
    instrument text NOT NULL,
    side text NOT NULL,
    scope text NOT NULL,
    placed_by text NOT NULL,
    order_unique_key text NOT NULL,
    version bigint NOT NULL,
    position bigint NOT NULL,
    updated_at timestamptz NOT NULL,
    split_completed_at timestamptz,
    state text NOT NULL CHECK (state IN ('PENDING', 'COMPLETED', 'FAILED')),
    failure_reason text,
    failure_message text,
    CHECK ((failure_reason IS NOT NULL) = (state = 'FAILED'))
) WITH (
    fillfactor = 48,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.02
);

-- Indexes for the lists, newest first: all orders, the orders of an instrument, FAILED orders. A list
-- with another status or with several filters skips rows of one of these indexes. PENDING and
-- IN_PROGRESS orders are read from pending_orders.
CREATE UNIQUE INDEX order_queue_created_position_idx ON order_queue (created_position);
CREATE INDEX order_queue_instrument_idx ON order_queue (instrument, created_position);
CREATE INDEX order_queue_failed_idx ON order_queue (created_position)
 WHERE failure_reason IS NOT NULL;

-- The orders without an outcome, oldest first, and the worker that holds each. A row is inserted with the
-- order and deleted with its outcome. A release keeps first_claimed_at, since an order's age counts from
-- its first claim. Claims do not come from events, so a rebuild keeps them. A claim is a HOT update: the
-- fillfactor leaves room for a second version of each row with a claim, which doubles its size.
CREATE TABLE pending_orders (
    created_position bigint PRIMARY KEY,
    order_id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    splitter_version integer NOT NULL,
    instrument text NOT NULL,
    claimed_at timestamptz,
    first_claimed_at timestamptz,
    claimed_by text,
    CHECK ((claimed_by IS NULL) = (claimed_at IS NULL)),
    CHECK (claimed_by IS NULL OR first_claimed_at IS NOT NULL)
) WITH (
    fillfactor = 34,
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);

-- A slice is written once and never changes. Slices of orders that are split together are stored together.
CREATE TABLE scheduled_slices (
    created_position bigint NOT NULL,
    scheduled_at timestamptz NOT NULL,
    quantity bigint NOT NULL,
    sequence_number integer NOT NULL,
    PRIMARY KEY (created_position, sequence_number)
);

-- Slices by time. The key is unique, since no order has two slices at one time.
CREATE UNIQUE INDEX scheduled_slices_scheduled_at_idx
    ON scheduled_slices (scheduled_at, created_position);

CREATE VIEW order_slices AS
SELECT q.order_id, s.sequence_number, q.instrument, q.side, s.quantity, s.scheduled_at
  FROM scheduled_slices s
  JOIN order_queue q USING (created_position);

CREATE VIEW order_claims AS
SELECT order_id, claimed_by, claimed_at, first_claimed_at
  FROM pending_orders
 WHERE first_claimed_at IS NOT NULL;

DO $$
DECLARE
    grants record;
    relation text;
    options text := (SELECT ' WITH (' || v.options || ')' FROM pg_temp.view_options v);
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
       p.first_claimed_at
  FROM order_queue q
  LEFT JOIN pending_orders p USING (created_position)$view$);
    FOR grants IN
        SELECT new.relation, g.privilege_type, g.is_grantable,
               CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END AS grantee
          FROM pg_temp.granted g
          JOIN (VALUES ('order_queue', 'order_queue'),
                       ('order_slices', 'order_slices'), ('order_slices', 'scheduled_slices'),
                       ('order_claims', 'order_claims'), ('order_claims', 'pending_orders'))
               AS new (relname, relation) USING (relname)
         WHERE g.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
    LOOP
        EXECUTE format('GRANT %s ON %I TO %s%s', grants.privilege_type, grants.relation,
                       grants.grantee,
                       CASE WHEN grants.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
    END LOOP;
    FOREACH relation IN ARRAY ARRAY['order_queue', 'pending_orders', 'scheduled_slices',
                                    'order_slices', 'order_claims']
    LOOP
        EXECUTE format('ALTER TABLE %I OWNER TO %s', relation,
                       (SELECT o.relowner::regrole::text FROM pg_temp.owned o));
    END LOOP;
END
$$;

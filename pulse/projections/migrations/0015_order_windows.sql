-- The requested start and session policy of an order, and its window (docs/decisions/0027). The
-- columns of the window are NULL if it starts at the creation and lasts as long as requested, so
-- the rows of earlier orders are right without a change.
ALTER TABLE order_queue
    ADD COLUMN start_at timestamptz,
    ADD COLUMN session_policy text,
    ADD COLUMN window_starts_at timestamptz,
    ADD COLUMN window_ends_at timestamptz,
    ADD CONSTRAINT order_queue_window_check
        CHECK ((window_starts_at IS NULL) = (window_ends_at IS NULL)) NOT VALID;

-- The view has new columns at its end; its options, identity and grants stay.
DO $$
DECLARE
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
       q.trace_id,
       q.start_at,
       q.session_policy,
       COALESCE(q.window_starts_at, q.created_at) AS window_starts_at,
       COALESCE(q.window_ends_at, q.created_at + q.duration_minutes * interval '1 minute')
           AS window_ends_at
  FROM order_queue q
  LEFT JOIN pending_orders p USING (created_position)$view$);
END
$$;

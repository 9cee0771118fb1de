-- The status of an order, from its state (which its events determine) and the holder of its claim. This
-- is the only definition of IN_PROGRESS in SQL.
CREATE OR REPLACE FUNCTION order_status(state text, claimed_by text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN state = 'PENDING' AND claimed_by IS NOT NULL THEN 'IN_PROGRESS' ELSE state END;

-- The hashes of the names of the workers that are present. Each worker holds an advisory lock on the
-- hash of its name. The planner inlines both functions.
CREATE OR REPLACE FUNCTION present_workers() RETURNS TABLE (name_hash integer)
LANGUAGE sql STABLE PARALLEL RESTRICTED
BEGIN ATOMIC
    SELECT l.objid::bigint::bit(32)::integer
      FROM pg_catalog.pg_locks l
     WHERE l.locktype = 'advisory'
       AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
       AND l.classid = 1347767379
       AND l.objsubid = 2
       AND l.granted;
END;

-- The view is unchanged but uses the function; its options, identity and grants stay.
DO $$
DECLARE
    options text := (
        SELECT ' WITH (' || string_agg(format('%s = %L', o.option_name, o.option_value), ', ') || ')'
          FROM pg_class c CROSS JOIN pg_options_to_table(c.reloptions) o
         WHERE c.oid = 'order_queue_status'::regclass);
BEGIN
    EXECUTE format('CREATE OR REPLACE VIEW order_queue_status%s AS %s', COALESCE(options, ''), $view$
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
       order_status(q.state, c.claimed_by) AS order_queue_status,
       q.failure_reason,
       q.failure_message,
       q.version,
       q.position,
       q.created_position,
       q.created_at,
       q.updated_at,
       q.split_completed_at,
       c.claimed_by,
       c.claimed_at,
       c.first_claimed_at
  FROM order_queue q
  LEFT JOIN order_claims c ON c.order_id = q.order_id AND q.state = 'PENDING'$view$);
END
$$;

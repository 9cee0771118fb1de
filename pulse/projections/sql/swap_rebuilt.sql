-- The rebuilt tables take the live ones' place. The view is locked first, in the order in which
-- readers lock, so that none of them and this wait for each other; it keeps its identity, options and
-- grants.
DO $$
DECLARE
    view_options text := (
        SELECT ' WITH (' || string_agg(format('%s = %L', o.option_name, o.option_value), ', ') || ')'
          FROM pg_class c
          JOIN pg_namespace s ON s.oid = c.relnamespace
         CROSS JOIN pg_options_to_table(c.reloptions) o
         WHERE s.nspname = {live_name} AND c.relname = 'order_queue_status');
    view_definition text := pg_get_viewdef(
        format('%I.order_queue_status', {live_name})::regclass);
    table_name text;
BEGIN
    LOCK TABLE {live}.order_queue_status IN ACCESS EXCLUSIVE MODE;
    CREATE SCHEMA pulse_replaced;
    FOREACH table_name IN ARRAY ARRAY['order_queue', 'order_slices', 'parked_orders'] LOOP
        EXECUTE format('ALTER TABLE %I.%I SET SCHEMA pulse_replaced', {live_name}, table_name);
        EXECUTE format('ALTER TABLE pulse_rebuild.%I SET SCHEMA %I', table_name, {live_name});
    END LOOP;
    EXECUTE format('CREATE OR REPLACE VIEW %I.order_queue_status%s AS %s',
                   {live_name}, COALESCE(view_options, ''), view_definition);
    DROP TABLE pulse_replaced.order_queue, pulse_replaced.order_slices, pulse_replaced.parked_orders;
    DROP SCHEMA pulse_replaced;
    DROP SCHEMA pulse_rebuild;
END
$$;

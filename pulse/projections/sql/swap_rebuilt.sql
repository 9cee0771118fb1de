-- The rebuilt tables take the live ones' place. The view is locked first, in the order in which
-- readers lock, so that none of them and this wait for each other; it keeps its identity and grants.
DO $$
DECLARE
    live text := current_schema();
    view_definition text := pg_get_viewdef('order_queue_status'::regclass);
    table_name text;
BEGIN
    LOCK TABLE order_queue_status IN ACCESS EXCLUSIVE MODE;
    CREATE SCHEMA pulse_replaced;
    FOREACH table_name IN ARRAY ARRAY['order_queue', 'order_slices', 'parked_orders'] LOOP
        EXECUTE format('ALTER TABLE %I.%I SET SCHEMA pulse_replaced', live, table_name);
        EXECUTE format('ALTER TABLE pulse_rebuild.%I SET SCHEMA %I', table_name, live);
    END LOOP;
    EXECUTE 'CREATE OR REPLACE VIEW order_queue_status AS ' || view_definition;
    DROP TABLE pulse_replaced.order_queue, pulse_replaced.order_slices, pulse_replaced.parked_orders;
    DROP SCHEMA pulse_replaced;
    DROP SCHEMA pulse_rebuild;
END
$$;

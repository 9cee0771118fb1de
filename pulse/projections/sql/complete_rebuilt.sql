-- Give the new tables the live ones' other indexes, under the same names, their storage settings and
-- their grants.
DO $$
DECLARE
    live text := current_schema();
    statement text;
BEGIN
    FOR statement IN
        SELECT replace(pg_get_indexdef(i.indexrelid),
                       format(' ON %I.', live), ' ON pulse_rebuild.')
          FROM pg_index i
          JOIN pg_class t ON t.oid = i.indrelid
         WHERE t.relnamespace = live::regnamespace
           AND t.relname IN ('order_queue', 'order_slices', 'parked_orders')
           AND NOT i.indisprimary
        UNION ALL
        SELECT format('ALTER TABLE pulse_rebuild.%I SET (%s)', t.relname,
                      array_to_string(t.reloptions, ', '))
          FROM pg_class t
         WHERE t.relnamespace = live::regnamespace
           AND t.relname IN ('order_queue', 'order_slices', 'parked_orders')
           AND t.reloptions IS NOT NULL
        UNION ALL
        SELECT format('GRANT %s ON pulse_rebuild.%I TO %s', a.privilege_type, t.relname,
                      CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END)
          FROM pg_class t
         CROSS JOIN aclexplode(t.relacl) a
          LEFT JOIN pg_roles r ON r.oid = a.grantee
         WHERE t.relnamespace = live::regnamespace
           AND t.relname IN ('order_queue', 'order_slices', 'parked_orders')
    LOOP
        EXECUTE statement;
    END LOOP;
END
$$;
ANALYZE pulse_rebuild.order_queue;
ANALYZE pulse_rebuild.order_slices;

-- Give the new tables what the live ones have: their other indexes under the same names, storage
-- settings, statistics targets, comments, and exactly their grants.
DO $$
DECLARE
    command text;
BEGIN
    FOR command IN
        WITH queue_tables AS (
            SELECT c.oid, c.relname, c.relowner, c.relacl, c.reloptions, c.reltoastrelid,
                   n.relacl AS new_acl
              FROM pg_class c
              JOIN pg_namespace s ON s.oid = c.relnamespace
              JOIN pg_class n
                ON n.relname = c.relname AND n.relnamespace = 'pulse_rebuild'::regnamespace
             WHERE s.nspname = {live_name}
               AND c.relname IN ('order_queue', 'order_slices', 'parked_orders')
        ), indexes AS (
            SELECT i.*, c.relname, t.relname AS table_name
              FROM pg_index i
              JOIN queue_tables t ON t.oid = i.indrelid
              JOIN pg_class c ON c.oid = i.indexrelid
        ), columns AS (
            SELECT a.*, t.relname AS table_name
              FROM pg_attribute a
              JOIN queue_tables t ON t.oid = a.attrelid
             WHERE a.attnum > 0
               AND NOT a.attisdropped
        ), commands (ord, command) AS (
            SELECT 1, replace(pg_get_indexdef(indexrelid),
                              format(' ON %I.', {live_name}), ' ON pulse_rebuild.')
              FROM indexes
             WHERE NOT indisprimary
             UNION ALL
            SELECT 2, format('ALTER TABLE pulse_rebuild.%I CLUSTER ON %I', table_name, relname)
              FROM indexes
             WHERE indisclustered
             UNION ALL
            SELECT 2, format('ALTER TABLE pulse_rebuild.%I SET (%s = %L)',
                             t.relname, o.option_name, o.option_value)
              FROM queue_tables t CROSS JOIN pg_options_to_table(t.reloptions) o
             UNION ALL
            SELECT 2, format('ALTER TABLE pulse_rebuild.%I SET (toast.%s = %L)',
                             t.relname, o.option_name, o.option_value)
              FROM queue_tables t
              JOIN pg_class toast ON toast.oid = t.reltoastrelid
             CROSS JOIN pg_options_to_table(toast.reloptions) o
             UNION ALL
            SELECT 2, format('ALTER TABLE pulse_rebuild.%I ALTER COLUMN %I SET STATISTICS %s',
                             table_name, attname, attstattarget)
              FROM columns
             WHERE attstattarget >= 0
             UNION ALL
            SELECT 2, format('ALTER TABLE pulse_rebuild.%I ALTER COLUMN %I SET (%s = %L)',
                             c.table_name, c.attname, o.option_name, o.option_value)
              FROM columns c CROSS JOIN pg_options_to_table(c.attoptions) o
             UNION ALL
            SELECT 2, format('COMMENT ON TABLE pulse_rebuild.%I IS %L', relname, description)
              FROM (SELECT relname, obj_description(oid, 'pg_class') AS description
                      FROM queue_tables) t
             WHERE description IS NOT NULL
             UNION ALL
            SELECT 2, format('COMMENT ON INDEX pulse_rebuild.%I IS %L', relname, description)
              FROM (SELECT relname, obj_description(indexrelid, 'pg_class') AS description
                      FROM indexes) i
             WHERE description IS NOT NULL
             UNION ALL
            SELECT 2, format('COMMENT ON CONSTRAINT %I ON pulse_rebuild.%I IS %L',
                             conname, relname, description)
              FROM (SELECT k.conname, t.relname, obj_description(k.oid, 'pg_constraint') AS description
                      FROM pg_constraint k JOIN queue_tables t ON t.oid = k.conrelid
                     WHERE k.contype = 'p') k
             WHERE description IS NOT NULL
             UNION ALL
            SELECT 3, format('REVOKE ALL ON pulse_rebuild.%I FROM %s', t.relname,
                             CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END)
              FROM queue_tables t
             CROSS JOIN aclexplode(COALESCE(t.new_acl, acldefault('r', t.relowner))) g
             WHERE t.relacl IS NOT NULL OR t.new_acl IS NOT NULL
             UNION ALL
            SELECT 4, format('GRANT %s ON pulse_rebuild.%I TO %s%s', g.privilege_type, t.relname,
                             CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END,
                             CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
              FROM queue_tables t
             CROSS JOIN aclexplode(COALESCE(t.relacl, acldefault('r', t.relowner))) g
             WHERE t.relacl IS NOT NULL OR t.new_acl IS NOT NULL
             UNION ALL
            SELECT 5, format('GRANT %s (%I) ON pulse_rebuild.%I TO %s%s',
                             g.privilege_type, c.attname, c.table_name,
                             CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END,
                             CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
              FROM columns c CROSS JOIN aclexplode(c.attacl) g
        )
        SELECT c.command FROM commands c ORDER BY c.ord
    LOOP
        EXECUTE command;
    END LOOP;
END
$$;
ANALYZE pulse_rebuild.order_queue;
ANALYZE pulse_rebuild.order_slices;

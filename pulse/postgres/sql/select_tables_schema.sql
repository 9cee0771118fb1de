-- The schema of Pulse's tables: that of the first of these tables that exists, else the current
-- schema.
SELECT coalesce(
    (SELECT n.nspname
       FROM pg_catalog.unnest(%s::text[]) WITH ORDINALITY AS wanted (name, place)
       JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(wanted.name)
       JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      ORDER BY wanted.place
      LIMIT 1),
    pg_catalog.current_schema())

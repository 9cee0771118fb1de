-- Whether all of these columns (each as table.column) exist in the search path.
SELECT pg_catalog.bool_and(EXISTS (
           SELECT
             FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = pg_catalog.to_regclass(pg_catalog.split_part(wanted, '.', 1))
              AND a.attname = pg_catalog.split_part(wanted, '.', 2)
              AND NOT a.attisdropped))
  FROM pg_catalog.unnest(%s::text[]) wanted

-- The given rights that this role does not have, in the syntax of GRANT. An object that does not
-- exist is skipped.
WITH wanted AS (
    SELECT w.*,
           CASE WHEN w.kind IN ('TABLE', 'VIEW') THEN pg_catalog.to_regclass(w.name)
                WHEN w.kind = 'SEQUENCE'
                     AND pg_catalog.to_regclass(pg_catalog.split_part(w.name, '.', 1)) IS NOT NULL
                THEN pg_catalog.pg_get_serial_sequence(
                         pg_catalog.split_part(w.name, '.', 1),
                         pg_catalog.split_part(w.name, '.', 2))::regclass
           END AS relation,
           CASE WHEN w.kind = 'FUNCTION' THEN pg_catalog.to_regprocedure(w.name) END AS function
      FROM ROWS FROM (pg_catalog.unnest(%(kinds)s::text[]), pg_catalog.unnest(%(names)s::text[]),
                      pg_catalog.unnest(%(privileges)s::text[]),
                      pg_catalog.unnest(%(columns)s::text[])) WITH ORDINALITY
           AS w (kind, name, privilege, on_column, number)
)
SELECT w.privilege
       || COALESCE(' (' || pg_catalog.string_agg(NULLIF(w.on_column, ''), ', ' ORDER BY w.number) || ')', '')
       || ' ON ' || CASE w.kind WHEN 'FUNCTION' THEN 'FUNCTION ' || w.name
                                WHEN 'SEQUENCE' THEN 'SEQUENCE ' || w.relation::text
                                ELSE w.name END
  FROM wanted w
 WHERE NOT CASE WHEN w.kind = 'FUNCTION'
                THEN pg_catalog.has_function_privilege(w.function, w.privilege)
                WHEN w.kind = 'SEQUENCE'
                THEN pg_catalog.has_sequence_privilege(w.relation, w.privilege)
                WHEN w.on_column <> ''
                THEN pg_catalog.has_column_privilege(w.relation, w.on_column, w.privilege)
                ELSE pg_catalog.has_table_privilege(w.relation, w.privilege) END
 GROUP BY w.kind, w.name, w.relation, w.privilege
 ORDER BY min(w.number)

-- A row for each right on an object that one of these roles or PUBLIC (an empty name) has: the object's
-- schema, name and owner; whether this role has the owner's rights; then the role, the right, and the
-- column that it is limited to. An object without such rights has one row with nulls, an object that does
-- not exist has none.
WITH wanted AS (
    SELECT w.kind, w.name,
           CASE WHEN w.kind IN ('TABLE', 'VIEW') THEN pg_catalog.to_regclass(w.name)
                WHEN w.kind = 'SEQUENCE'
                     AND pg_catalog.to_regclass(pg_catalog.split_part(w.name, '.', 1)) IS NOT NULL
                THEN pg_catalog.pg_get_serial_sequence(
                         pg_catalog.split_part(w.name, '.', 1),
                         pg_catalog.split_part(w.name, '.', 2))::regclass
           END AS relation,
           CASE WHEN w.kind = 'FUNCTION' THEN pg_catalog.to_regprocedure(w.name) END AS function
      FROM ROWS FROM (pg_catalog.unnest(%(kinds)s::text[]), pg_catalog.unnest(%(names)s::text[]))
           AS w (kind, name)
), object AS (
    SELECT w.kind, w.name, c.oid, c.relnamespace AS namespace, c.relname::text AS own_name,
           c.relowner AS owner,
           COALESCE(c.relacl, pg_catalog.acldefault(
               CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner)) AS acl
      FROM wanted w
      JOIN pg_catalog.pg_class c ON c.oid = w.relation
     UNION ALL
    SELECT w.kind, w.name, p.oid, p.pronamespace, p.proname::text, p.proowner,
           COALESCE(p.proacl, pg_catalog.acldefault('f', p.proowner))
      FROM wanted w
      JOIN pg_catalog.pg_proc p ON p.oid = w.function
), granted AS (
    SELECT o.kind, o.name, a.grantee, a.privilege_type, '' AS on_column
      FROM object o
     CROSS JOIN pg_catalog.aclexplode(o.acl) a
     UNION ALL
    SELECT o.kind, o.name, a.grantee, a.privilege_type, t.attname::text
      FROM object o
      JOIN pg_catalog.pg_attribute t ON t.attrelid = o.oid AND t.attnum > 0 AND NOT t.attisdropped
     CROSS JOIN pg_catalog.aclexplode(t.attacl) a
     WHERE o.kind IN ('TABLE', 'VIEW')
)
SELECT o.name, n.nspname::text, o.own_name, pg_catalog.pg_get_userbyid(o.owner)::text,
       pg_catalog.pg_has_role(o.owner, 'USAGE'),
       CASE WHEN g.grantee = 0 THEN '' ELSE r.rolname::text END, g.privilege_type, g.on_column
  FROM object o
  JOIN pg_catalog.pg_namespace n ON n.oid = o.namespace
  LEFT JOIN (granted g LEFT JOIN pg_catalog.pg_roles r ON r.oid = g.grantee)
    ON g.kind = o.kind
   AND g.name = o.name
   AND (g.grantee = 0 OR r.rolname = ANY (%(roles)s::text[]))

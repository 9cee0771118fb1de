-- The rights of these roles and of PUBLIC (an empty name) on the schema and on the database.
SELECT a.object, COALESCE(r.rolname::text, ''), a.privilege_type
  FROM (SELECT 'SCHEMA' AS object, e.grantee, e.privilege_type
          FROM pg_catalog.pg_namespace n
         CROSS JOIN pg_catalog.aclexplode(
               COALESCE(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) e
         WHERE n.nspname = %(schema)s
         UNION ALL
        SELECT 'DATABASE', e.grantee, e.privilege_type
          FROM pg_catalog.pg_database d
         CROSS JOIN pg_catalog.aclexplode(
               COALESCE(d.datacl, pg_catalog.acldefault('d', d.datdba))) e
         WHERE d.datname = pg_catalog.current_database()) a
  LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
 WHERE a.grantee = 0
    OR r.rolname = ANY (%(roles)s::text[])

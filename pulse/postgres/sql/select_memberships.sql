-- For each of these roles: whether it is a member of the given role, whether it has all rights of the given
-- role (it inherits them and may SET ROLE), and whether it may grant the membership.
SELECT r.rolname::text,
       pg_catalog.pg_has_role(r.oid, g.oid, 'MEMBER'),
       pg_catalog.pg_has_role(r.oid, g.oid, 'USAGE')
       AND pg_catalog.pg_has_role(r.oid, g.oid,
               CASE WHEN pg_catalog.current_setting('server_version_num')::integer >= 160000
                    THEN 'SET' ELSE 'MEMBER' END),
       pg_catalog.pg_has_role(r.oid, g.oid, 'MEMBER WITH ADMIN OPTION')
  FROM pg_catalog.pg_roles r
 CROSS JOIN pg_catalog.pg_roles g
 WHERE r.rolname = ANY (%s::text[])
   AND g.rolname = %s

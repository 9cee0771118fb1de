-- What the setup of roles needs to know about this role: its name, whether it is a superuser,
-- whether it may create roles, whether it owns the database and the schema; and the name of the
-- database, and the server's version.
SELECT me.rolname::text,
       me.rolsuper,
       me.rolcreaterole,
       pg_catalog.pg_has_role(d.datdba, 'USAGE'),
       pg_catalog.pg_has_role(n.nspowner, 'USAGE'),
       d.datname::text,
       pg_catalog.current_setting('server_version_num')::integer
  FROM pg_catalog.pg_roles me
 CROSS JOIN pg_catalog.pg_database d
 CROSS JOIN pg_catalog.pg_namespace n
 WHERE me.rolname = current_user
   AND d.datname = pg_catalog.current_database()
   AND n.nspname = %s

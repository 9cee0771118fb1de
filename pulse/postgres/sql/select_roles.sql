-- The given roles that exist, with their attributes beyond those of an ordinary role.
SELECT r.rolname::text,
       ARRAY(SELECT a.name
               FROM (VALUES ('SUPERUSER', r.rolsuper), ('CREATEROLE', r.rolcreaterole),
                            ('CREATEDB', r.rolcreatedb), ('REPLICATION', r.rolreplication),
                            ('BYPASSRLS', r.rolbypassrls)) AS a (name, given)
              WHERE a.given)
  FROM pg_catalog.pg_roles r
 WHERE r.rolname = ANY (%s::text[])

-- What the new tables could not take over from the live ones, and what the rebuild lacks: one line
-- each, with what to do. Indexes, storage settings, grants and comments are taken over.
WITH live AS (
    SELECT oid AS schema, nspname AS name FROM pg_namespace WHERE nspname = {live_name}
), queue_tables AS (
    SELECT c.*
      FROM pg_class c
     WHERE c.relnamespace = (SELECT schema FROM live)
       AND c.relname IN ('order_queue', 'order_slices', 'parked_orders')
), queue_view AS (
    SELECT c.*
      FROM pg_class c
     WHERE c.relnamespace = (SELECT schema FROM live)
       AND c.relname = 'order_queue_status'
), parts (class, object) AS (
    SELECT 'pg_class'::regclass::oid, oid FROM queue_tables
     UNION ALL
    SELECT 'pg_class'::regclass, reltoastrelid FROM queue_tables
     UNION ALL
    SELECT 'pg_class'::regclass, i.indexrelid
      FROM pg_index i JOIN queue_tables t ON i.indrelid IN (t.oid, t.reltoastrelid)
     UNION ALL
    SELECT 'pg_type'::regclass, y.oid
      FROM pg_type y JOIN queue_tables t ON t.reltype IN (y.oid, y.typelem)
     UNION ALL
    SELECT 'pg_constraint'::regclass, k.oid
      FROM pg_constraint k JOIN queue_tables t ON t.oid = k.conrelid
     WHERE k.contype IN ('p', 'c', 'n')
     UNION ALL
    SELECT 'pg_attrdef'::regclass, a.oid
      FROM pg_attrdef a JOIN queue_tables t ON t.oid = a.adrelid
     UNION ALL
    SELECT 'pg_rewrite'::regclass, r.oid
      FROM pg_rewrite r JOIN queue_view v ON v.oid = r.ev_class
     WHERE r.rulename = '_RETURN'
), grants AS (
    SELECT t.relname, t.relowner, g.grantor
      FROM queue_tables t CROSS JOIN aclexplode(t.relacl) g
     UNION ALL
    SELECT t.relname, t.relowner, g.grantor
      FROM queue_tables t
      JOIN pg_attribute a ON a.attrelid = t.oid
     CROSS JOIN aclexplode(a.attacl) g
)
SELECT DISTINCT format('%s depends on a table of the queue: drop it, and create it again afterwards '
                       '(views belong on order_queue_status)',
                       pg_describe_object(d.classid, d.objid, d.objsubid))
  FROM pg_depend d
  JOIN parts p ON (p.class, p.object) = (d.refclassid, d.refobjid)
 WHERE NOT EXISTS (SELECT FROM parts q WHERE (q.class, q.object) = (d.classid, d.objid))
   AND d.classid <> 'pg_publication_rel'::regclass
   AND NOT EXISTS (
       SELECT FROM pg_trigger g
        WHERE d.classid = 'pg_trigger'::regclass AND g.oid = d.objid AND g.tgisinternal)
 UNION ALL
SELECT DISTINCT format('publication %I publishes %I: take the table out of it, and add it again and '
                       'refresh the subscriptions afterwards', p.pubname, p.tablename)
  FROM pg_publication_tables p
  JOIN queue_tables t ON t.relname = p.tablename
 WHERE p.schemaname = (SELECT name FROM live)
 UNION ALL
SELECT format('%I is owned by %I: run the rebuild as that role', c.relname, c.relowner::regrole)
  FROM (TABLE queue_tables UNION ALL TABLE queue_view) c
 WHERE c.relowner::regrole::text <> quote_ident(current_user)
 UNION ALL
SELECT DISTINCT format('a grant on %I was given by %s, not by its owner: revoke it, and have the '
                       'owner grant it', relname, grantor::regrole)
  FROM grants
 WHERE grantor <> relowner
 UNION ALL
SELECT format('%I has a column %I that the rebuild does not fill: drop it, or run the rebuild of the '
              'newer code that has it', t.relname, a.attname)
  FROM queue_tables t
  JOIN pg_attribute a ON a.attrelid = t.oid
 WHERE a.attnum > 0
   AND NOT a.attisdropped
   AND a.attgenerated = ''
   AND NOT format('%s.%s', t.relname, a.attname) = ANY ({columns}::text[])
 UNION ALL
SELECT format('%I has row-level security: disable it, and enable it again afterwards', relname)
  FROM queue_tables
 WHERE relrowsecurity OR relforcerowsecurity
 UNION ALL
SELECT format('%I has a replica identity of its own, is unlogged, inherits from a table, or is of '
              'another access method than heap: set it back, and change it again afterwards', relname)
  FROM queue_tables t
 WHERE relreplident <> 'd'
    OR relpersistence <> 'p'
    OR relam <> (SELECT oid FROM pg_am WHERE amname = 'heap')
    OR EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = t.oid)
 UNION ALL
SELECT format('%I is in a tablespace of its own: move it to that of the database, and back '
              'afterwards', c.relname)
  FROM pg_class c
 WHERE c.reltablespace <> 0
   AND c.oid IN (SELECT object FROM parts WHERE class = 'pg_class'::regclass)
 UNION ALL
SELECT DISTINCT format('%I has a security label: remove it, and set it again afterwards', t.relname)
  FROM pg_seclabel l JOIN queue_tables t ON (l.classoid, l.objoid) = ('pg_class'::regclass, t.oid)
 UNION ALL
SELECT format('role %I may not create schemas in database %I: '
              'GRANT CREATE ON DATABASE %2$I TO %1$I', current_user, current_database())
 WHERE NOT has_database_privilege(current_database(), 'CREATE')
 UNION ALL
SELECT format('role %I may not create tables in schema %I: '
              'GRANT CREATE ON SCHEMA %2$I TO %1$I', current_user, name)
  FROM live
 WHERE NOT has_schema_privilege(schema, 'CREATE')
 UNION ALL
SELECT format('schema %I belongs to role %s: drop it, it takes the place of the rebuild''s own',
              nspname, nspowner::regrole)
  FROM pg_namespace
 WHERE nspname IN ('pulse_rebuild', 'pulse_replaced')
   AND nspowner::regrole::text <> quote_ident(current_user)
 ORDER BY 1

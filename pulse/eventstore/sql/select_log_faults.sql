-- Why the lock, the sequence and the insert of an append would not be on one server in one commit
-- phase, or why ids would not be in commit order. One sentence per fault; no row if there is none.
WITH log AS (
    SELECT c.oid, c.relkind, c.relpersistence, a.attnum
      FROM pg_class c
      LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'notification_id'
     WHERE c.oid = to_regclass('stored_events')
), own AS (
    SELECT d.objid AS oid
      FROM log
      JOIN pg_depend d
        ON d.classid = 'pg_class'::regclass
       AND d.refclassid = 'pg_class'::regclass
       AND d.refobjid = log.oid
       AND d.refobjsubid = log.attnum
       AND d.deptype IN ('a', 'i')
      JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
)
SELECT format('stored_events is a %s, not an ordinary table',
              CASE log.relkind WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table'
                               WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
                               ELSE 'relation of kind ' || log.relkind::text END)
  FROM log
 WHERE log.relkind <> 'r'
 UNION ALL
SELECT 'stored_events has child tables or is one'
  FROM log
 WHERE log.relkind = 'r'
   AND EXISTS (SELECT FROM pg_inherits WHERE log.oid IN (inhparent, inhrelid))
 UNION ALL
SELECT 'stored_events is not a logged table: a crash of the server would empty it'
  FROM log
 WHERE log.relpersistence <> 'p'
 UNION ALL
SELECT format('a rule or row trigger changes inserts into stored_events: %s',
              string_agg(diverting.name, ', '))
  FROM (SELECT r.rulename::text AS name
          FROM log
          JOIN pg_rewrite r ON r.ev_class = log.oid
         WHERE log.relkind = 'r'
         UNION ALL
        SELECT t.tgname::text
          FROM log
          JOIN pg_trigger t ON t.tgrelid = log.oid
         WHERE NOT t.tgisinternal
           AND t.tgenabled <> 'D'
           AND t.tgtype & 7 = 7) diverting
HAVING count(*) > 0
 UNION ALL
SELECT 'a logical replication subscription writes to stored_events'
  FROM log
 WHERE EXISTS (SELECT FROM pg_subscription_rel WHERE srrelid = log.oid)
 UNION ALL
SELECT format('this is not a Postgres server but %s', product)
  FROM unnest(ARRAY['CockroachDB', 'YugabyteDB', '-YB-', 'Spanner']) product
 WHERE version() LIKE '%' || product || '%'
 UNION ALL
SELECT 'the ids of stored_events do not come from a sequence that the column owns'
  FROM log
 WHERE (SELECT count(*) FROM own) <> 1
    OR NOT EXISTS (
       SELECT FROM own
         JOIN pg_attribute a ON a.attrelid = log.oid AND a.attnum = log.attnum
         LEFT JOIN pg_attrdef f ON f.adrelid = log.oid AND f.adnum = log.attnum
        WHERE a.attidentity <> ''
           OR (pg_get_expr(f.adbin, f.adrelid) LIKE 'nextval(%::regclass)'
               AND EXISTS (
                   SELECT FROM pg_depend d
                    WHERE d.classid = 'pg_attrdef'::regclass
                      AND d.objid = f.oid
                      AND d.refclassid = 'pg_class'::regclass
                      AND d.refobjid = own.oid)))
 UNION ALL
SELECT format('the sequence %s may issue ids out of commit order: it must have INCREMENT 1, '
              'CACHE 1, NO CYCLE and be logged', own.oid::regclass)
  FROM own
  JOIN pg_sequence q ON q.seqrelid = own.oid
  JOIN pg_class s ON s.oid = own.oid
 WHERE q.seqincrement <> 1
    OR q.seqcache <> 1
    OR q.seqcycle
    OR s.relpersistence <> 'p'

-- Why this role could do more to the log than append, one phrase for each reason; no row if it can
-- only append. A superuser has every right, so no other reason is given.
WITH log AS (
    SELECT me.oid AS role, me.rolsuper, c.oid AS relation, c.relowner, n.nspowner, d.datdba
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
      JOIN pg_catalog.pg_roles me ON me.rolname = current_user
     WHERE c.oid = to_regclass('stored_events')
)
SELECT reason.phrase
  FROM log
 CROSS JOIN LATERAL (VALUES
       (log.rolsuper, 'is a superuser'),
       (NOT log.rolsuper AND pg_catalog.pg_has_role(log.role, log.relowner, 'MEMBER'),
        'owns the table stored_events'),
       (NOT log.rolsuper AND pg_catalog.pg_has_role(log.role, log.nspowner, 'MEMBER'),
        'owns the schema'),
       (NOT log.rolsuper AND pg_catalog.pg_has_role(log.role, log.datdba, 'MEMBER'),
        'owns the database'),
       (NOT log.rolsuper
        AND NOT pg_catalog.pg_has_role(log.role, log.relowner, 'MEMBER')
        AND (pg_catalog.has_table_privilege(log.role, log.relation, 'UPDATE, DELETE, TRUNCATE, TRIGGER')
             OR pg_catalog.has_any_column_privilege(log.role, log.relation, 'UPDATE')),
        'has UPDATE, DELETE, TRUNCATE or TRIGGER on stored_events'),
       (NOT log.rolsuper
        AND NOT pg_catalog.pg_has_role(log.role, log.relowner, 'MEMBER')
        AND (pg_catalog.has_column_privilege(log.role, log.relation, 'recorded_at', 'INSERT')
             OR pg_catalog.has_column_privilege(log.role, log.relation, 'notification_id', 'INSERT')),
        'may choose the id or the recorded time of an event')
       ) AS reason (holds, phrase)
 WHERE reason.holds

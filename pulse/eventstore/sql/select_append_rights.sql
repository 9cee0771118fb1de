-- Whether this role may use the log's sequence, and the function of wait_for_replicas, which has one
-- more parameter since Postgres 17. An append without events tests neither.
SELECT COALESCE(has_sequence_privilege(
           pg_get_serial_sequence('stored_events', 'notification_id'), 'USAGE, UPDATE'), true),
       pg_get_serial_sequence('stored_events', 'notification_id'),
       has_function_privilege(p.oid, 'EXECUTE'),
       p.oid::regprocedure::text,
       current_user::text
  FROM pg_catalog.pg_proc AS p
 WHERE p.proname = 'pg_logical_emit_message'
   AND p.pronamespace = 'pg_catalog'::regnamespace
   AND p.proargtypes[2] = 'text'::regtype

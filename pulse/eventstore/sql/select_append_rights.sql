-- Whether this role may use the log's sequence; an append without events does not test it.
SELECT COALESCE(has_sequence_privilege(
           pg_get_serial_sequence('stored_events', 'notification_id'), 'USAGE, UPDATE'), true),
       pg_get_serial_sequence('stored_events', 'notification_id'),
       current_user::text

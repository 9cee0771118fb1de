-- Whether this role may take the next id of the log, which an append of nothing does not show.
SELECT COALESCE(has_sequence_privilege(
           pg_get_serial_sequence('stored_events', 'notification_id'), 'USAGE, UPDATE'), true),
       pg_get_serial_sequence('stored_events', 'notification_id'),
       current_user::text

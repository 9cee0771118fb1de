-- Move a position forward. No row comes back if it stands there already or further on.
INSERT INTO notification_tracking AS t (application_name, notification_id)
VALUES (%b::text, %b::bigint)
    ON CONFLICT (application_name) DO UPDATE
   SET notification_id = excluded.notification_id
 WHERE t.notification_id < excluded.notification_id
RETURNING notification_id

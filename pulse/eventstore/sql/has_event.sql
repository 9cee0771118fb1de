-- Whether the log has this event at this position.
SELECT EXISTS (SELECT
                 FROM stored_events
                WHERE notification_id = %b::bigint
                  AND originator_id = %b::uuid
                  AND originator_version = %b::bigint)

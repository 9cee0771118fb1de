-- Whether an event has this position.
SELECT EXISTS (SELECT FROM recorded_events() WHERE notification_id = %b::bigint)

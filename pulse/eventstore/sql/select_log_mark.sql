-- The identity of the log and its last event, in one snapshot. Without events the columns of the
-- event are null.
SELECT i.log_id, e.notification_id, e.originator_id, e.originator_version
  FROM log_identity i
  LEFT JOIN LATERAL (
       SELECT notification_id, originator_id, originator_version
         FROM stored_events
        ORDER BY notification_id DESC
        LIMIT 1) e ON true

-- The entries computed from the events that are now between two positions of the log. The states
-- are not sent to the client.
SELECT e.notification_id, seal_entry(e.notification_id, e.originator_id, e.originator_version,
                                     e.topic, e.state, e.recorded_at)
  FROM recorded_events() e
 WHERE e.notification_id > %b::bigint
   AND e.notification_id <= %b::bigint
 ORDER BY e.notification_id

-- The entries that the events between two positions of the log have now. The states do not leave the
-- server.
SELECT e.notification_id, seal_entry(e.notification_id, e.originator_id, e.originator_version,
                                     e.topic, e.state, e.recorded_at)
  FROM recorded_events() e
 WHERE e.notification_id > %b::bigint
   AND e.notification_id <= %b::bigint
 ORDER BY e.notification_id

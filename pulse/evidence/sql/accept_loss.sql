-- Continue although sealed events may be lost: the last event of the log up to the sealed position
-- becomes the last sealed one.
UPDATE seal_state
   SET position = COALESCE(e.notification_id, 0), last_entry = e.entry
  FROM (VALUES (true)) one (row)
  LEFT JOIN LATERAL (
       SELECT e.notification_id, seal_entry(e.notification_id, e.originator_id, e.originator_version,
                                            e.topic, e.state, e.recorded_at) AS entry
         FROM recorded_events() e
        WHERE e.notification_id <= (SELECT position FROM seal_state)
        ORDER BY e.notification_id DESC
        LIMIT 1) e ON true
RETURNING position, last_entry

-- The streams whose first event is after one position and up to another, as far as a third, in commit
-- order. The first is the one of the lowest version: a stream may lack its creation. OFFSET 0 keeps the
-- planner from reading the whole log for what the window's few thousand keys find.
SELECT e.notification_id, e.originator_id, e.originator_version, e.topic, e.state, e.recorded_at
  FROM recorded_events() f
 CROSS JOIN LATERAL (
       SELECT *
         FROM recorded_events() s
        WHERE s.originator_id = f.originator_id AND s.notification_id <= %(position)b::bigint
       OFFSET 0) e
 WHERE f.notification_id > %(after)b::bigint
   AND f.notification_id <= %(until)b::bigint
   AND (f.originator_version = 1 OR f.originator_version = (
       SELECT min(b.originator_version)
         FROM recorded_events() b
        WHERE b.originator_id = f.originator_id))
 ORDER BY e.notification_id

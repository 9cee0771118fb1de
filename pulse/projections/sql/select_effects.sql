-- The events after a position and up to another, by topic: their number, their latest recorded
-- time, and their states. The state of a failure is replaced by that of the order's creation, which
-- has the order's quantity. The states of SlicesScheduled are not needed.
SELECT e.topic, count(*), max(e.recorded_at),
       array_agg(COALESCE(CASE WHEN e.topic = ANY (%(failures)b::text[]) THEN created.state
                               ELSE e.state END, '')) FILTER (WHERE e.topic <> %(scheduled)b::text)
  FROM recorded_events() e
  LEFT JOIN LATERAL (
       SELECT s.state
         FROM recorded_events() s
        WHERE e.topic = ANY (%(failures)b::text[])
          AND s.originator_id = e.originator_id
          AND s.originator_version = 1
       OFFSET 0) created ON true
 WHERE e.notification_id > %(after)b::bigint
   AND e.notification_id <= %(until)b::bigint
 GROUP BY e.topic

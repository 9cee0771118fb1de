-- As select_effects, for the events up to a position that the queue has not applied: those of each
-- parked order from the event that parked it.
SELECT e.topic, count(*), max(e.recorded_at),
       array_agg(COALESCE(CASE WHEN e.topic = ANY (%(failures)b::text[]) THEN created.state
                               ELSE e.state END, '')) FILTER (WHERE e.topic <> %(scheduled)b::text)
  FROM parked_orders p
 CROSS JOIN LATERAL (
       SELECT *
         FROM recorded_events() s
        WHERE s.originator_id = p.order_id
          AND s.notification_id >= p.position
          AND s.notification_id <= %(until)b::bigint
       OFFSET 0) e
  LEFT JOIN LATERAL (
       SELECT s.state
         FROM recorded_events() s
        WHERE e.topic = ANY (%(failures)b::text[])
          AND s.originator_id = e.originator_id
          AND s.originator_version = 1
       OFFSET 0) created ON true
 WHERE p.position <= %(until)b::bigint
 GROUP BY e.topic

-- The events of some streams up to a position that are outside a window, in no order. OFFSET 0
-- makes the planner look up each stream by its key. Without it the planner reads the whole log for a
-- few thousand streams. Positions are compared outside the subquery. Within it the planner would, on
-- a log without statistics, scan the index of positions for each stream.
SELECT e.*
  FROM pg_catalog.unnest(%(originator_ids)b::uuid[]) AS stream (originator_id)
 CROSS JOIN LATERAL (
       SELECT *
         FROM recorded_events() s
        WHERE s.originator_id = stream.originator_id
       OFFSET 0) e
 WHERE e.notification_id <= %(position)b::bigint
   AND (e.notification_id <= %(after)b::bigint OR e.notification_id > %(until)b::bigint)

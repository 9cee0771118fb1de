-- The events of some streams up to a position, but for those in a window, in no order. OFFSET 0 has each
-- stream looked up by its key: the planner would read the whole log for a window's few thousand.
SELECT e.*
  FROM pg_catalog.unnest(%(originator_ids)b::uuid[]) AS stream (originator_id)
 CROSS JOIN LATERAL (
       SELECT *
         FROM recorded_events() s
        WHERE s.originator_id = stream.originator_id
          AND s.notification_id <= %(position)b::bigint
       OFFSET 0) e
 WHERE e.notification_id <= %(after)b::bigint OR e.notification_id > %(until)b::bigint

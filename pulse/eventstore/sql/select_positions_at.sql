-- For each time the first position whose event was recorded at or after it, or one more than the
-- last position: a binary search, which assumes that recorded times ascend with the positions.
-- Every event up to `low` was recorded before the time, every event from `high` on at or after it.
SELECT search.position
  FROM unnest(%(times)b::timestamptz[]) WITH ORDINALITY times (recorded_from, number)
 CROSS JOIN LATERAL (
       WITH RECURSIVE bounds (low, high) AS (
           SELECT 0::bigint, (SELECT COALESCE(max(notification_id), 0) + 1 FROM stored_events)
           UNION ALL
           SELECT CASE WHEN e.recorded_at < times.recorded_from THEN e.notification_id ELSE r.low END,
                  CASE WHEN e.recorded_at < times.recorded_from THEN r.high ELSE r.middle END
             FROM (SELECT low, high, (low + high) / 2 AS middle FROM bounds WHERE high - low > 1) r
             LEFT JOIN LATERAL (
                  SELECT notification_id, recorded_at
                    FROM stored_events
                   WHERE notification_id >= r.middle AND notification_id < r.high
                   ORDER BY notification_id
                   LIMIT 1) e ON true
       )
       SELECT min(high) AS position FROM bounds) search
 ORDER BY times.number

-- For each minute in which events after a position and up to another were recorded: its last
-- position, and the latest time recorded up to it. The parameter `recorded_until` is that of
-- the event at `after`.
SELECT date_trunc('minute', e.recorded_until) AS minute, max(e.notification_id), max(e.recorded_until)
  FROM (SELECT notification_id,
               GREATEST(%(recorded_until)b::timestamptz,
                        max(recorded_at) OVER (ORDER BY notification_id)) AS recorded_until
          FROM recorded_events()
         WHERE notification_id > %(after)b::bigint
           AND notification_id <= %(until)b::bigint) e
 GROUP BY 1
 ORDER BY 1

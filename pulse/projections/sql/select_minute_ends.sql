-- For each minute in which events after a position and up to another were recorded: its last
-- position, and the latest time recorded up to it. The parameter `reached` is the latest time
-- recorded up to `after`.
SELECT date_trunc('minute', e.reached) AS minute, max(e.notification_id), max(e.reached)
  FROM (SELECT notification_id,
               GREATEST(%(reached)b::timestamptz,
                        max(recorded_at) OVER (ORDER BY notification_id)) AS reached
          FROM recorded_events()
         WHERE notification_id > %(after)b::bigint
           AND notification_id <= %(until)b::bigint) e
 GROUP BY 1
 ORDER BY 1

-- The identity of the log, and its events after a position in commit order, in one snapshot. Without
-- events there is one row, whose other columns are null.
SELECT i.log_id, e.*
  FROM log_identity i
  LEFT JOIN LATERAL (
       SELECT *
         FROM recorded_events()
        WHERE notification_id > %(after)b::bigint
        ORDER BY notification_id
        LIMIT %(limit)b::bigint) e ON true
 ORDER BY e.notification_id

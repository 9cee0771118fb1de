-- The identity of the log, the last position among its next `max_scanned` events (null if there are
-- none), and those of them that have one topic. One snapshot: an event that is appended meanwhile is
-- neither returned nor counted as scanned.
SELECT i.log_id, scanned.last_position, e.*
  FROM log_identity i
 CROSS JOIN (
       SELECT max(notification_id) AS last_position
         FROM (SELECT notification_id
                 FROM stored_events
                WHERE notification_id > %(after)b::bigint
                ORDER BY notification_id
                LIMIT %(max_scanned)b::bigint) next) scanned
  LEFT JOIN LATERAL (
       SELECT *
         FROM recorded_events()
        WHERE notification_id > %(after)b::bigint
          AND notification_id <= scanned.last_position
          AND topic = %(topic)b::text
        ORDER BY notification_id
        LIMIT %(limit)b::bigint) e ON true
 ORDER BY e.notification_id

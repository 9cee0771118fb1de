-- The identity of the log. Of the last `max_scanned` events before a position: their count, their
-- first position (null if there are none), and those with one of the topics, newest first. `topics`
-- is null for all topics. One snapshot.
SELECT i.log_id, scanned.events, scanned.first_position, e.*
  FROM log_identity i
 CROSS JOIN (
       SELECT count(*) AS events, min(notification_id) AS first_position
         FROM (SELECT notification_id
                 FROM stored_events
                WHERE notification_id < %(before)b::bigint
                ORDER BY notification_id DESC
                LIMIT %(max_scanned)b::bigint) previous) scanned
  LEFT JOIN LATERAL (
       SELECT *
         FROM recorded_events()
        WHERE notification_id < %(before)b::bigint
          AND notification_id >= scanned.first_position
          AND (%(topics)b::text[] IS NULL OR topic = ANY (%(topics)b::text[]))
        ORDER BY notification_id DESC
        LIMIT %(limit)b::bigint) e ON true
 ORDER BY e.notification_id DESC

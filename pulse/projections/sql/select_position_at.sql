-- The last position as of a time: the one before the first event that was recorded later; and the
-- database's time. The first window with a later time is found among the windows, so at most one
-- window of the log is read, or what is not summed up yet. This is exact even if the database's
-- clock was set back: the time of an event is the latest time recorded up to it. The position is
-- null if more positions than `max_scanned` would have to be read.
WITH bounds AS (
    SELECT later.until_position,
           summed.until_position AS summed_up_to,
           later.until_position IS NOT NULL
           OR (SELECT COALESCE(max(notification_id), 0) FROM recorded_events())
              - summed.until_position <= %(max_scanned)b::bigint AS complete
      FROM (SELECT COALESCE(max(until_position), 0) AS until_position FROM queue_history) summed
      LEFT JOIN LATERAL (
           SELECT until_position
             FROM queue_history
            WHERE max_recorded_at > %(at)b::timestamptz
            ORDER BY until_position
            LIMIT 1) later ON true
), first_later AS (
    SELECT e.notification_id
      FROM bounds b
     CROSS JOIN LATERAL (
           SELECT notification_id
             FROM recorded_events()
            WHERE b.complete
              AND notification_id > COALESCE(b.until_position - %(size)b::bigint, b.summed_up_to)
              AND recorded_at > %(at)b::timestamptz
            ORDER BY notification_id
            LIMIT 1) e
)
SELECT CASE WHEN b.complete THEN
            COALESCE((SELECT notification_id
                        FROM recorded_events()
                       WHERE notification_id < COALESCE((SELECT notification_id FROM first_later),
                                                        9223372036854775807)
                       ORDER BY notification_id DESC
                       LIMIT 1), 0)
       END,
       clock_timestamp()
  FROM bounds b

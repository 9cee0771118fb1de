-- The last position of the log up to the sealed one.
SELECT COALESCE(max(e.notification_id), 0)
  FROM (SELECT e.notification_id
          FROM recorded_events() e
         WHERE e.notification_id <= %b::bigint
         ORDER BY e.notification_id DESC
         LIMIT 1) e

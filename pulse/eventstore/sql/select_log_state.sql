-- Where the log ends and what its sequence has issued: the name of the sequence, the last position of
-- the log, the last id issued (null without the right to ask), the first id in the log beyond that,
-- and whether the next id to be issued is taken. The snapshot is older than the look at the sequence,
-- so an append under way is never beyond it.
WITH issued AS (
    SELECT last_issued_id() AS last_id
)
SELECT pg_get_serial_sequence('stored_events', 'notification_id'),
       COALESCE((SELECT max(notification_id) FROM stored_events), 0),
       i.last_id,
       (SELECT notification_id FROM stored_events WHERE notification_id > i.last_id
         ORDER BY notification_id LIMIT 1),
       EXISTS (SELECT FROM stored_events WHERE notification_id = i.last_id + 1)
  FROM issued i

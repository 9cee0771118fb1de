-- The end of the log and the state of its sequence: the sequence's name, the last position, the
-- last id issued (null without the privilege to read it), the first id in the log after that, and
-- whether the next id is taken. The sequence is read after the snapshot is taken, so it has issued
-- the ids of all events that were appended before the snapshot.
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

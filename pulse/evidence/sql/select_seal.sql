-- The tree: its key, size and position, and the latest checkpoint and its size; the seconds
-- since a step last sealed events; the age of the first event that is not sealed, by the database's clock (0 if all
-- are, up to the last id issued); and whether the last sealed event is still in the log.
SELECT s.verifier_key, s.size, s.position, s.checkpoint, s.checkpoint_size,
       EXTRACT(EPOCH FROM clock_timestamp() - s.sealed_at)::float8,
       COALESCE(EXTRACT(EPOCH FROM clock_timestamp() - (
           SELECT e.recorded_at
             FROM recorded_events() e
            WHERE e.notification_id > s.position
              AND e.notification_id <= (SELECT COALESCE(last_issued_id(), 9223372036854775807))
            ORDER BY e.notification_id
            LIMIT 1)), 0)::float8,
       s.last_entry IS NULL OR EXISTS (SELECT FROM recorded_events() e WHERE e.notification_id = s.position)
  FROM seal_state s

-- Set when a releaser has to look at the orders at these positions of creation, from their rows and
-- their slices (see `due_at` in pulse.domain.releases). An order that is parked, or has nothing to
-- release, has no row.
WITH due AS MATERIALIZED (
    SELECT asked.created_position, n.due_at
      FROM unnest(%(positions)b::bigint[]) AS asked (created_position)
      LEFT JOIN LATERAL (
           SELECT CASE WHEN s.scheduled_at - released.scheduled_at >= rule.distance
                       THEN GREATEST(s.scheduled_at, q.updated_at + LEAST(
                                rule.distance,
                                s.scheduled_at - released.scheduled_at - rule.catch_up))
                       ELSE s.scheduled_at END AS due_at
             FROM (SELECT make_interval(secs => %(distance_seconds)b::float8) AS distance,
                          make_interval(secs => %(catch_up_seconds)b::float8) AS catch_up) rule
            CROSS JOIN order_queue q
             JOIN scheduled_slices s
               ON s.created_position = q.created_position
              AND s.sequence_number = length(q.settled) + 1
             LEFT JOIN scheduled_slices released
               ON released.created_position = q.created_position
              AND released.sequence_number = length(q.settled)
              AND right(q.settled, 1) = 'R'
            WHERE q.created_position = asked.created_position
              AND q.release
              AND NOT EXISTS (SELECT FROM parked_orders k WHERE k.order_id = q.order_id)
           OFFSET 0) n ON true
), deleted AS (
    DELETE FROM due_orders d
     USING due
     WHERE d.created_position = due.created_position
       AND due.due_at IS NULL
    RETURNING d.created_position
), written AS (
    INSERT INTO due_orders AS d (created_position, due_at)
    SELECT created_position, due_at FROM due WHERE due_at IS NOT NULL
        ON CONFLICT (created_position) DO UPDATE SET due_at = EXCLUDED.due_at
     WHERE d.due_at <> EXCLUDED.due_at
    RETURNING d.created_position
)
SELECT created_position FROM deleted
 UNION ALL
SELECT created_position FROM written

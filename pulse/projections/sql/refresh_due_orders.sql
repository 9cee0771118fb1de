-- Set when a releaser has to process the orders at these positions of creation, from their rows and
-- their slices. An order that is parked, or has nothing to release, has no row.
WITH due AS MATERIALIZED (
    SELECT asked.created_position, next.due_at
      FROM unnest(%(positions)b::bigint[]) AS asked (created_position)
      LEFT JOIN LATERAL (
           SELECT created_position, settled, updated_at
             FROM order_queue o
            WHERE created_position = asked.created_position
              AND release
              AND NOT EXISTS (SELECT FROM parked_orders k WHERE k.order_id = o.order_id)
           OFFSET 0) q ON true
      LEFT JOIN LATERAL ({due_at}) next ON true
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

-- Delete some orders from the queue, by id and by the positions of their creations, before they are
-- written again from their streams. The pending orders at the kept positions stay, with their
-- claims.
WITH queued AS (
    DELETE FROM order_queue WHERE order_id = ANY (%(order_ids)b::uuid[]) RETURNING created_position
), positions AS (
    SELECT created_position FROM queued
     UNION
    SELECT unnest(%(positions)b::bigint[])
), slices AS (
    DELETE FROM scheduled_slices
     WHERE created_position = ANY (ARRAY(SELECT created_position FROM positions))
), pending AS (
    DELETE FROM pending_orders
     WHERE created_position = ANY (ARRAY(SELECT created_position FROM positions))
       AND created_position <> ALL (%(kept_pending)b::bigint[])
), due AS (
    DELETE FROM due_orders
     WHERE created_position = ANY (ARRAY(SELECT created_position FROM positions))
), parked AS (
    DELETE FROM parked_orders WHERE order_id = ANY (%(order_ids)b::uuid[])
)
DELETE FROM queue_audit_findings WHERE order_id = ANY (%(order_ids)b::uuid[])

-- A page of orders that match every filter, newest first, each with its claim, and the projected
-- position. One snapshot, as in select_orders. The candidates come from one index in order, and at most
-- `examined` of them are examined. The last of these is returned even if it does not match: the next
-- page starts below it. A filter that is null matches all orders.
SELECT t.notification_id AS as_of_position, q.matches, q.number, {columns}, q.claimed_by, q.claimed_at
  FROM notification_tracking t
  LEFT JOIN LATERAL (
       SELECT *
         FROM (SELECT c.*, p.claimed_by, p.claimed_at, row_number() OVER () AS number,
                      (%(status)b::text IS NULL
                       OR order_status(c.state, p.claimed_by) = %(status)b::text)
                      AND (%(instrument)b::text IS NULL OR c.instrument = %(instrument)b::text)
                      AND (%(placed_by)b::text IS NULL OR c.placed_by = %(placed_by)b::text)
                      AND (%(trace_id)b::text IS NULL OR c.trace_id = %(trace_id)b::text)
                      AND (%(created_from)b::timestamptz IS NULL
                           OR c.created_at >= %(created_from)b::timestamptz)
                      AND (%(created_before)b::timestamptz IS NULL
                           OR c.created_at < %(created_before)b::timestamptz) AS matches
                 FROM ({candidates}
                        LIMIT %(examined)b::bigint) c
                 LEFT JOIN LATERAL (
                      SELECT claimed_by, claimed_at
                        FROM pending_orders
                       WHERE c.state = 'PENDING'
                         AND created_position BETWEEN c.created_position AND c.created_position
                       ORDER BY created_position
                       LIMIT 1) p ON true) e
        WHERE e.matches OR e.number = %(examined)b::bigint
        LIMIT %(rows)b::bigint) q ON true
 WHERE t.application_name = %(projection)b
 ORDER BY q.created_position DESC

-- The orders that a releaser has to process now, the longest due first, except those at some
-- positions of creation. An order that a halt covers is left out until its next slice expires (see
-- `expires_at` in pulse.domain.releases). Each order has its next unsettled slices: every one whose
-- time has come, and the one after them. Each row begins with the current time and the seconds
-- until the next order is due; if no order is due, there is one row without an order. NOT IN is a
-- hash lookup; <> ALL of a parameter would compare with each element.
WITH now AS MATERIALIZED (
    SELECT clock_timestamp() AS at
), moment AS MATERIALIZED (
    SELECT now.at,
           (SELECT EXTRACT(EPOCH FROM due_at - now.at)::float8
              FROM due_orders
             WHERE due_at > now.at
             ORDER BY due_at
             LIMIT 1) AS next_seconds
      FROM now
)
SELECT moment.at, moment.next_seconds,
       o.order_id, o.version, o.order_unique_key, o.instrument, o.side, o.placed_by, o.trace_id,
       o.sequence_numbers, o.quantities, o.times, o.created_position
  FROM moment
  LEFT JOIN LATERAL (
       SELECT q.*, s.*
         FROM (SELECT due.created_position, due.due_at
                 FROM due_orders due
                WHERE due.due_at <= moment.at
                  AND due.created_position NOT IN (SELECT unnest(%(left_out)b::bigint[]))
                  AND (NOT %(any_halted)b::boolean
                       OR EXISTS (
                          SELECT
                            FROM order_queue h
                           WHERE h.created_position = due.created_position
                             AND (NOT (%(all_halted)b::boolean
                                       OR h.instrument = ANY (%(halted_instruments)b::text[])
                                       OR h.placed_by = ANY (%(halted_callers)b::text[]))
                                  OR moment.at >= (
                                     SELECT LEAST(
                                                s.scheduled_at + make_interval(
                                                    secs => %(max_delay_seconds)b::float8),
                                                CASE WHEN successor.scheduled_at IS NOT NULL THEN
                                                    GREATEST(
                                                        successor.scheduled_at,
                                                        s.scheduled_at + make_interval(
                                                            secs => %(min_release_seconds)b::float8))
                                                END)
                                       FROM scheduled_slices s
                                       LEFT JOIN scheduled_slices successor
                                         ON successor.created_position = s.created_position
                                        AND successor.sequence_number = s.sequence_number + 1
                                      WHERE s.created_position = h.created_position
                                        AND s.sequence_number = length(h.settled) + 1))))
                ORDER BY due.due_at
                LIMIT %(limit)b::bigint) d
        CROSS JOIN LATERAL (
              SELECT *
                FROM order_queue
               WHERE created_position BETWEEN d.created_position AND d.created_position
               ORDER BY created_position
               LIMIT 1) q
        CROSS JOIN LATERAL (
              SELECT array_agg(u.sequence_number ORDER BY u.sequence_number) AS sequence_numbers,
                     array_agg(u.quantity ORDER BY u.sequence_number) AS quantities,
                     array_agg(u.scheduled_at ORDER BY u.sequence_number) AS times
                FROM (SELECT sequence_number, quantity, scheduled_at,
                             lag(scheduled_at) OVER (ORDER BY sequence_number) AS previous_at
                        FROM scheduled_slices
                       WHERE created_position = d.created_position
                         AND sequence_number > length(q.settled)) u
               WHERE u.previous_at IS NULL
                  OR u.previous_at <= moment.at) s
        ORDER BY d.due_at) o ON true

-- Of the first `most` slices in a period, by minute: how many there are, how many of them Pulse
-- will release and their quantity, and how many of those a halt covers. A minute without slices has
-- no row.
SELECT date_trunc('minute', s.scheduled_at, 'UTC') AS minute,
       count(*),
       count(*) FILTER (WHERE waiting),
       (COALESCE(sum(s.quantity) FILTER (WHERE waiting), 0))::bigint,
       count(*) FILTER (WHERE waiting AND halted)
  FROM (SELECT *
          FROM scheduled_slices
         WHERE scheduled_at >= %(scheduled_from)b::timestamptz
           AND scheduled_at < %(scheduled_before)b::timestamptz
         ORDER BY scheduled_at, created_position
         LIMIT %(most)b::bigint) s
 CROSS JOIN LATERAL (
       SELECT release AND slice_state(settled, s.sequence_number) = 'SCHEDULED' AS waiting,
              %(all_halted)b::boolean
                  OR instrument = ANY (%(halted_instruments)b::text[])
                  OR placed_by = ANY (%(halted_callers)b::text[]) AS halted
         FROM order_queue
        WHERE created_position BETWEEN s.created_position AND s.created_position
        ORDER BY created_position
        LIMIT 1) q
 GROUP BY minute
 ORDER BY minute

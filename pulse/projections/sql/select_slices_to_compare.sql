-- The slices at some positions of creation, and all in a window of such positions, by position; one
-- array per column.
SELECT created_position,
       array_agg(sequence_number ORDER BY sequence_number),
       array_agg(quantity ORDER BY sequence_number),
       array_agg(scheduled_at ORDER BY sequence_number)
  FROM (SELECT *
          FROM scheduled_slices
         WHERE created_position > %(after)b::bigint
           AND created_position <= %(until)b::bigint
         UNION ALL
        SELECT *
          FROM scheduled_slices
         WHERE created_position = ANY (%(positions)b::bigint[])) s
 GROUP BY created_position

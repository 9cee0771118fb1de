-- For each position the first leaf of the only row of entries that can have it: the last one that
-- begins at or before it.
SELECT wanted.position, found.first_index
  FROM unnest(%b::bigint[]) AS wanted (position)
 CROSS JOIN LATERAL (
       SELECT first_index
         FROM seal_entries
        WHERE first_position <= wanted.position
        ORDER BY first_position DESC
        LIMIT 1) found

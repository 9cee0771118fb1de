-- The rows of entries in which these positions are, each once.
SELECT s.first_index, s.entries
  FROM (SELECT DISTINCT found.first_index
          FROM unnest(%b::bigint[]) AS wanted (position)
         CROSS JOIN LATERAL (
               SELECT first_index
                 FROM seal_entries
                WHERE first_position <= wanted.position
                ORDER BY first_position DESC
                LIMIT 1) found) wanted_rows
  JOIN seal_entries s USING (first_index)
 ORDER BY s.first_index

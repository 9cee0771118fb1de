-- The row of entries in which a position is, if it is sealed.
SELECT first_index, entries
  FROM seal_entries
 WHERE first_position <= %b::bigint
 ORDER BY first_position DESC
 LIMIT 1

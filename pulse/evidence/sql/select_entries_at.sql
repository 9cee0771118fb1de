-- The only row of entries that can have a position: the last one that begins at or before it.
SELECT first_index, entries
  FROM seal_entries
 WHERE first_position <= %b::bigint
 ORDER BY first_position DESC
 LIMIT 1

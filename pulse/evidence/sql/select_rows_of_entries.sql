-- The next rows of entries from a leaf on.
SELECT first_index, first_position, entries
  FROM seal_entries
 WHERE first_index >= %b::bigint
 ORDER BY first_index
 LIMIT %b::bigint

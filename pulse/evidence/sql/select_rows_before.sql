-- The rows of entries before a leaf, the last one first.
SELECT first_index, entries
  FROM seal_entries
 WHERE first_index < %b::bigint
 ORDER BY first_index DESC
 LIMIT %b::bigint

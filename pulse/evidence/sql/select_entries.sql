-- The rows of entries from one leaf to another (exclusive), in order.
SELECT entries
  FROM seal_entries
 WHERE first_index >= %b::bigint AND first_index < %b::bigint
 ORDER BY first_index

-- The hashes of a level from one subtree to another (exclusive), in order.
SELECT hash
  FROM seal_nodes
 WHERE level = %b::smallint AND node_index >= %b::bigint AND node_index < %b::bigint
 ORDER BY node_index

-- The hashes of some subtrees.
SELECT n.level, n.node_index, n.hash
  FROM unnest(%b::smallint[], %b::bigint[]) AS wanted (level, node_index)
  JOIN seal_nodes n USING (level, node_index)

-- Store the hashes of the subtrees that have become full.
INSERT INTO seal_nodes (level, node_index, hash)
SELECT * FROM unnest(%b::smallint[], %b::bigint[], %b::bytea[])

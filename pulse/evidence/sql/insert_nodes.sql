-- Store the hashes of subtrees that are full now.
INSERT INTO seal_nodes (level, node_index, hash)
SELECT * FROM unnest(%b::smallint[], %b::bigint[], %b::bytea[])

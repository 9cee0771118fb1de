-- Record that a pack was exported. The time and the role are the database's own.
INSERT INTO evidence_exports (exported_by, code_version, order_id, recorded_from, recorded_before,
                              events, first_index, last_index, tree_size, content_hash)
VALUES (%(exported_by)b::text, %(code_version)b::text, %(order_id)b::uuid,
        %(recorded_from)b::timestamptz, %(recorded_before)b::timestamptz, %(events)b::bigint,
        %(first_index)b::bigint, %(last_index)b::bigint, %(tree_size)b::bigint,
        decode(%(content_hash)b::text, 'hex'))

-- Every export, the oldest first.
SELECT exported_at, exported_by, database_role, code_version, order_id, recorded_from, recorded_before,
       events, first_index, last_index, tree_size, encode(content_hash, 'hex')
  FROM evidence_exports
 ORDER BY exported_at

-- Whether Citus manages the log: as a distributed table, a reference table or in a distributed
-- schema. The catalog exists only with the extension.
SELECT 'Citus manages stored_events: its commits are two-phase'
  FROM pg_catalog.pg_dist_partition
 WHERE logicalrelid = to_regclass('stored_events')

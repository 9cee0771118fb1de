-- Whether Citus has taken the log over, distributed, as a reference table or by its schema. Its catalog
-- exists only where the extension does.
SELECT 'Citus manages stored_events: its commits are two-phase'
  FROM pg_catalog.pg_dist_partition
 WHERE logicalrelid = to_regclass('stored_events')

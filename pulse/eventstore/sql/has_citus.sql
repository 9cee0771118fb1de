-- Whether the catalog of Citus exists, without which the statement about it cannot be planned.
SELECT to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL

-- Whether the catalog of Citus exists, which select_citus_faults needs.
SELECT to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL

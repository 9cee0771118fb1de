-- Which server and database this is: the cluster, the database, when the server started, and
-- whether it is a standby.
SELECT (pg_control_system()).system_identifier, d.oid::bigint, pg_postmaster_start_time(),
       pg_is_in_recovery()
  FROM pg_database d
 WHERE d.datname = current_database()

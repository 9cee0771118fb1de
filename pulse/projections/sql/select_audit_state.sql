-- How far the present pass of the audit is, and how many seconds ago the last whole one ended.
SELECT position, EXTRACT(EPOCH FROM clock_timestamp() - last_pass_at)::float8
  FROM queue_audit
 WHERE application_name = %b

-- The audit's position in the current pass, and how many seconds ago the last complete pass ended.
SELECT position, EXTRACT(EPOCH FROM clock_timestamp() - last_pass_at)::float8
  FROM queue_audit
 WHERE application_name = %b

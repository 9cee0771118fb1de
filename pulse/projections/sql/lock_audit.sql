-- How far the audit is, held until the transaction ends; nothing if no window is due, or if another
-- process is auditing.
SELECT position
  FROM queue_audit
 WHERE application_name = %b
   AND due_at <= clock_timestamp()
   FOR UPDATE SKIP LOCKED

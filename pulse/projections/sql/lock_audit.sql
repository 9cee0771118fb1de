-- Lock the audit's position until the transaction ends, and return it. No row if no window is due
-- or another process is auditing.
SELECT position
  FROM queue_audit
 WHERE application_name = %b
   AND due_at <= clock_timestamp()
   FOR UPDATE SKIP LOCKED

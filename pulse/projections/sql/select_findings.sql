-- What the audit found and has not seen put right, the oldest events first.
SELECT position, order_id, fault
  FROM queue_audit_findings
 ORDER BY position, order_id
 LIMIT %b::bigint

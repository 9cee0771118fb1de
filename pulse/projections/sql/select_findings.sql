-- The unresolved findings of the audit, oldest position first.
SELECT position, order_id, fault
  FROM queue_audit_findings
 ORDER BY position, order_id
 LIMIT %b::bigint

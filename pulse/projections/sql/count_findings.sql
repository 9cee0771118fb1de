-- The number of findings by fault.
SELECT fault, count(*) FROM queue_audit_findings GROUP BY fault

-- How many findings there are, by what is wrong.
SELECT fault, count(*) FROM queue_audit_findings GROUP BY fault

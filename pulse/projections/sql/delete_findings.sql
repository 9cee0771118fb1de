-- Delete the findings of a window and return them, before the new findings are inserted.
DELETE FROM queue_audit_findings
 WHERE position > %b::bigint
   AND position <= %b::bigint
RETURNING position, order_id, fault

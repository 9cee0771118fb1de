-- Forget what was found in a window, before what is found now takes its place.
DELETE FROM queue_audit_findings
 WHERE position > %b::bigint
   AND position <= %b::bigint
RETURNING position, order_id, fault

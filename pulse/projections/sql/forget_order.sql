-- Take out what the queue holds of one order, to build it again from its stream.
WITH slices AS (DELETE FROM order_slices WHERE order_id = %(order_id)s),
     parked AS (DELETE FROM parked_orders WHERE order_id = %(order_id)s),
     findings AS (DELETE FROM queue_audit_findings WHERE order_id = %(order_id)s)
DELETE FROM order_queue WHERE order_id = %(order_id)s

-- Delete what no window of the log covers: orders created after the projected position, slices,
-- pending and due orders without an order, parked orders without an event. Then release the rebuild
-- lock.
DELETE FROM order_queue
 WHERE created_position > (SELECT max(notification_id) FROM notification_tracking
                            WHERE application_name = 'order_queue');
DELETE FROM scheduled_slices s
 WHERE NOT EXISTS (SELECT FROM order_queue q WHERE q.created_position = s.created_position);
DELETE FROM pending_orders p
 WHERE NOT EXISTS (SELECT FROM order_queue q WHERE q.created_position = p.created_position);
DELETE FROM due_orders d
 WHERE NOT EXISTS (SELECT FROM order_queue q WHERE q.created_position = d.created_position);
DELETE FROM parked_orders p
 WHERE NOT EXISTS (SELECT FROM recorded_events() e WHERE e.originator_id = p.order_id);
SELECT pg_advisory_unlock_all();

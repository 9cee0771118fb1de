-- Orders created beyond what is projected, slices without an order, and parked orders without an event:
-- no window of the log has them. Then let the next rebuild begin.
DELETE FROM {live}.order_queue
 WHERE created_position > (SELECT max(notification_id) FROM {live}.notification_tracking
                            WHERE application_name = 'order_queue');
DELETE FROM {live}.order_slices s
 WHERE NOT EXISTS (SELECT FROM {live}.order_queue q WHERE q.order_id = s.order_id);
DELETE FROM {live}.parked_orders p
 WHERE NOT EXISTS (SELECT FROM {live}.recorded_events() e WHERE e.originator_id = p.order_id);
SELECT pg_advisory_unlock_all();

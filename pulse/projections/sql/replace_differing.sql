-- The rebuilt orders take the place of the live ones that differ.
DELETE FROM {live}.order_slices WHERE order_id IN (SELECT order_id FROM differing);
DELETE FROM {live}.parked_orders WHERE order_id IN (SELECT order_id FROM differing);
DELETE FROM {live}.order_queue WHERE order_id IN (SELECT order_id FROM differing);
INSERT INTO {live}.order_queue SELECT r.* FROM order_queue r JOIN differing USING (order_id);
INSERT INTO {live}.order_slices SELECT r.* FROM order_slices r JOIN differing USING (order_id);
INSERT INTO {live}.parked_orders SELECT r.* FROM parked_orders r JOIN differing USING (order_id);

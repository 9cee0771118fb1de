-- Empty tables beside the live ones, under the same names in a schema of their own. Indexes but the
-- primary keys come after the rows. What a rebuild that died left behind goes first.
DROP SCHEMA IF EXISTS pulse_rebuild CASCADE;
DROP SCHEMA IF EXISTS pulse_replaced CASCADE;
CREATE SCHEMA pulse_rebuild;
CREATE TABLE pulse_rebuild.order_queue (LIKE {live}.order_queue INCLUDING ALL EXCLUDING INDEXES);
CREATE TABLE pulse_rebuild.order_slices (LIKE {live}.order_slices INCLUDING ALL EXCLUDING INDEXES);
CREATE TABLE pulse_rebuild.parked_orders (LIKE {live}.parked_orders INCLUDING ALL EXCLUDING INDEXES);
ALTER TABLE pulse_rebuild.order_queue
    ADD CONSTRAINT order_queue_pkey PRIMARY KEY (order_id);
ALTER TABLE pulse_rebuild.order_slices
    ADD CONSTRAINT order_slices_pkey PRIMARY KEY (order_id, sequence_number);
ALTER TABLE pulse_rebuild.parked_orders
    ADD CONSTRAINT parked_orders_pkey PRIMARY KEY (order_id);

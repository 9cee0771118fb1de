-- Empty temporary tables under the names of the live ones, emptied at each commit, and one for the
-- orders that differ. From here on unqualified names lead to these and to what is Postgres' own.
SET statement_timeout = 0;
SET search_path = pg_catalog, pg_temp;
CREATE TEMPORARY TABLE order_queue (
    LIKE {live}.order_queue INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED,
    PRIMARY KEY (order_id)
) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE order_slices (
    LIKE {live}.order_slices INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED,
    PRIMARY KEY (order_id, sequence_number)
) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE parked_orders (
    LIKE {live}.parked_orders INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED,
    PRIMARY KEY (order_id)
) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE differing (order_id uuid NOT NULL) ON COMMIT DELETE ROWS;

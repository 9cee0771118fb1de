-- The single-row tracking table of the eventsourcing library (9.5). Its rows are updated without
-- end, so there is room for that on every page, and vacuum comes often.
CREATE TABLE notification_tracking (
    application_name text,
    notification_id bigint,
    PRIMARY KEY (application_name)
) WITH (
    fillfactor = 10,
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 500,
    autovacuum_vacuum_cost_delay = 0
);

-- By this row the library knows that the table is of the single-row kind.
INSERT INTO notification_tracking (application_name, notification_id) VALUES ('__migration__', 1)

-- The applied revisions. `oldest_code` is the last revision known to the oldest code that may run
-- on a database with this revision. Every process checks the table, so any role may read it until the
-- roles are set up, which revokes the right of PUBLIC.
CREATE TABLE pulse_schema (
    revision integer PRIMARY KEY CHECK (revision > 0),
    name text NOT NULL,
    oldest_code integer NOT NULL CHECK (oldest_code BETWEEN 1 AND revision),
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
GRANT SELECT ON pulse_schema TO PUBLIC;

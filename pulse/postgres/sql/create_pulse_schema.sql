-- Which revisions of Pulse's schema this database has. `oldest_code` is the revision that the oldest
-- code which may run on it was made for. Any role may read it: every process checks it.
CREATE TABLE pulse_schema (
    revision integer PRIMARY KEY CHECK (revision > 0),
    name text NOT NULL,
    oldest_code integer NOT NULL CHECK (oldest_code BETWEEN 1 AND revision),
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
GRANT SELECT ON pulse_schema TO PUBLIC;

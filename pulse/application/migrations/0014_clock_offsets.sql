-- How far the clock of each process was from the database's: a row for each minute, for 30 days. The
-- offset is positive if the process's clock is ahead. A measurement is off by at most max_error_seconds.
CREATE TABLE clock_offsets (
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    instance text NOT NULL,
    code_version text NOT NULL,
    measurements integer NOT NULL,
    min_offset_seconds double precision NOT NULL,
    max_offset_seconds double precision NOT NULL,
    max_error_seconds double precision NOT NULL
);

-- By time, for the audit of a period and for the deletion of old rows.
CREATE INDEX clock_offsets_recorded_at_idx ON clock_offsets (recorded_at);

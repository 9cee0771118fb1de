-- The identity of the log, in one row. `pulse log fork` renews it after a restore to an earlier point:
-- positions that readers stored beyond that point belong to the other log. A dump and a physical backup
-- copy it.
CREATE TABLE log_identity (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    log_id uuid NOT NULL DEFAULT gen_random_uuid(),
    made_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

INSERT INTO log_identity DEFAULT VALUES;

-- Every role that reads the log may read its identity, which is not secret.
GRANT SELECT ON log_identity TO PUBLIC;

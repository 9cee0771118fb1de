-- The forks of the log that were declared: it was restored to an earlier point, and continues there under
-- another log_id. `position` was the end of the log then. If the log was sealed, `size` is the number of
-- sealed events that it kept, and `known_size` the number in the largest known checkpoint.
CREATE TABLE log_forks (
    number integer PRIMARY KEY,
    position bigint NOT NULL,
    size bigint,
    known_size bigint,
    old_log_id uuid NOT NULL,
    new_log_id uuid NOT NULL UNIQUE,
    forked_at timestamptz NOT NULL,
    forked_by text NOT NULL,
    database_role text NOT NULL DEFAULT session_user,
    reason text NOT NULL
);

-- A declared fork is never changed, not even by the table's owner.
CREATE FUNCTION log_forks_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'log_forks is append-only: % refused', TG_OP
        USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER log_forks_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON log_forks
    FOR EACH STATEMENT EXECUTE FUNCTION log_forks_refuse_change();

-- Every role that reads the log may read its forks, as it may read its identity.
GRANT SELECT ON log_forks TO PUBLIC;

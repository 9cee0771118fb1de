-- Who exported evidence packs, when, and of what: of an order, or of the events recorded in a period.
-- `first_index` and `last_index` are the first and the last leaf that the pack is about, in the tree of
-- `tree_size` entries. Two exports of one selection have the same `content_hash`.
CREATE TABLE evidence_exports (
    exported_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    exported_by text NOT NULL,
    database_role text NOT NULL DEFAULT session_user,
    code_version text NOT NULL,
    order_id uuid,
    recorded_from timestamptz,
    recorded_before timestamptz,
    events bigint NOT NULL,
    first_index bigint NOT NULL,
    last_index bigint NOT NULL,
    tree_size bigint NOT NULL,
    content_hash bytea NOT NULL,
    CHECK ((order_id IS NULL) = (recorded_from IS NOT NULL AND recorded_before IS NOT NULL))
);

CREATE INDEX evidence_exports_exported_at_idx ON evidence_exports (exported_at);

CREATE TRIGGER evidence_exports_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON evidence_exports
    FOR EACH STATEMENT EXECUTE FUNCTION seal_refuse_change();

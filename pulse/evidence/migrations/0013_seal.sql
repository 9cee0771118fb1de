-- The seal: a signed Merkle tree over the log (docs/explanation/evidence.md). A role that seals needs
-- SELECT on these tables, INSERT on all but seal_state, and UPDATE on seal_state alone.

-- The entries of the tree, as served: each preceded by its length, big-endian in two bytes. A row has
-- those from leaf first_index on, all of one bundle of 256. They are compressed by the server.
CREATE TABLE seal_entries (
    first_index bigint PRIMARY KEY,
    first_position bigint NOT NULL UNIQUE,
    entries bytea NOT NULL
);

-- The hashes of the full subtrees of 256^level leaves, level 1 and above, which tiles consist of. Those
-- of level 0 follow from the entries.
CREATE TABLE seal_nodes (
    level smallint NOT NULL,
    node_index bigint NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (level, node_index)
);

-- The keys that signed checkpoints, in order. `rotation` is the note that the previous key and this one
-- signed; null for the first.
CREATE TABLE seal_keys (
    number integer PRIMARY KEY,
    verifier_key text NOT NULL UNIQUE,
    rotation text,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The tree in one row, which is also the lock that lets one process at a time seal. `position` is that
-- of the last sealed event, `last_entry` its entry; `frontier` has the hashes of the full subtrees of
-- which the tree consists. `checkpoint` is the latest signed note, of the tree of checkpoint_size.
CREATE TABLE seal_state (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    verifier_key text,
    size bigint NOT NULL DEFAULT 0,
    position bigint NOT NULL DEFAULT 0,
    last_entry bytea,
    frontier bytea NOT NULL DEFAULT '',
    checkpoint text,
    checkpoint_size bigint NOT NULL DEFAULT 0,
    checkpoint_at timestamptz,
    sealed_at timestamptz
) WITH (fillfactor = 10);

INSERT INTO seal_state DEFAULT VALUES;

-- Entries, hashes and keys of the seal are never changed, not even by the tables' owner.
CREATE FUNCTION seal_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER seal_entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON seal_entries
    FOR EACH STATEMENT EXECUTE FUNCTION seal_refuse_change();
CREATE TRIGGER seal_nodes_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON seal_nodes
    FOR EACH STATEMENT EXECUTE FUNCTION seal_refuse_change();
CREATE TRIGGER seal_keys_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON seal_keys
    FOR EACH STATEMENT EXECUTE FUNCTION seal_refuse_change();

-- The entry of an event: canonical JSON, in this order and without white space. The fraction of
-- recorded_at is left out where it is zero, as in the API. A topic longer than 255 bytes, which no event
-- of Pulse has, is replaced by its hash, since an entry is limited to 65,535 bytes. Null in topic or
-- state, which the library's table allows, counts as empty.
CREATE FUNCTION seal_entry(notification_id bigint, originator_id uuid, originator_version bigint,
                           topic text, state bytea, recorded_at timestamptz)
RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
RETURN convert_to(
    '{"position":' || notification_id
    || ',"order_id":"' || originator_id
    || '","version":' || originator_version
    || ',"topic":' || CASE WHEN octet_length(topic) > 255
                           THEN '"sha256:' || encode(sha256(convert_to(topic, 'UTF8')), 'hex') || '"'
                           ELSE COALESCE(to_json(topic)::text, '""') END
    || ',"recorded_at":"'
    || replace(to_char(recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '.000000Z', 'Z')
    || '","state_sha256":"' || encode(sha256(COALESCE(state, '')), 'hex') || '"}', 'UTF8');

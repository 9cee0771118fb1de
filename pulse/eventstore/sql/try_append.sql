-- Insert an event, roll it back to a savepoint, and commit. This tests the table, its indexes, the
-- disk and the replicas that confirm commits. No row remains and no notification is sent. It uses
-- up an id, as any failed append does. It takes the lock of an append. Otherwise each probe would
-- leave a session that waits for a replica: that wait has no limit, even after the client has
-- disconnected.
DO $$
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock(x'50554C5345000002'::bigint);
    INSERT INTO stored_events (originator_id, originator_version, topic, state)
    VALUES (gen_random_uuid(), 1, 'pulse:AppendTried', convert_to('{}', 'UTF8'));
    RAISE EXCEPTION 'rolled back on purpose' USING ERRCODE = 'PU000';
EXCEPTION WHEN SQLSTATE 'PU000' THEN
    NULL;
END
$$

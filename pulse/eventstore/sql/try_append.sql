-- Insert an event, roll it back to a savepoint, and commit. This tests the table, its indexes, the
-- disk and the replicas that confirm commits. No row remains and no notification is sent. It uses
-- up an id, as any failed append does. It needs no lock, which only orders the ids of rows that
-- remain.
DO $$
BEGIN
    INSERT INTO stored_events (originator_id, originator_version, topic, state)
    VALUES (gen_random_uuid(), 1, 'pulse:AppendTried', convert_to('{}', 'UTF8'));
    RAISE EXCEPTION 'rolled back on purpose' USING ERRCODE = 'PU000';
EXCEPTION WHEN SQLSTATE 'PU000' THEN
    NULL;
END
$$

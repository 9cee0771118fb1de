-- An append that is rolled back within and then committed: row, indexes, disk and the commit with its
-- replicas are tried, nothing stays, no notification is sent. It takes an id, as the append that failed
-- before it did; without the lock of appends, which only orders the ids of rows that stay.
DO $$
BEGIN
    INSERT INTO stored_events (originator_id, originator_version, topic, state)
    VALUES (gen_random_uuid(), 1, 'pulse:AppendTried', convert_to('{}', 'UTF8'));
    RAISE EXCEPTION 'rolled back on purpose' USING ERRCODE = 'PU000';
EXCEPTION WHEN SQLSTATE 'PU000' THEN
    NULL;
END
$$

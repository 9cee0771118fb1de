-- Write a message to the WAL that nothing reads, and commit. The commit waits until the replicas
-- that confirm commits have all WAL up to it, and so every event that was visible before. If no
-- replica confirms commits, this writes nothing. It takes the lock of an append for the same reason
-- as try_append.
SELECT pg_catalog.pg_logical_emit_message(true, 'pulse', '')
 WHERE CASE WHEN current_setting('synchronous_standby_names') <> ''
            THEN (SELECT pg_advisory_xact_lock(%b::bigint)) IS NOT NULL
            ELSE false
       END

-- Write a message to the WAL that nothing reads, and commit. The commit waits until the replicas that
-- confirm commits have all WAL up to it, and so every event that was visible before.
SELECT pg_catalog.pg_logical_emit_message(true, 'pulse', '')

-- The identity of the log, and since when it has it.
SELECT log_id, made_at FROM log_identity

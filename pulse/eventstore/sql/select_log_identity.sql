-- The identity of the log, and the time from which it has this identity.
SELECT log_id, made_at FROM log_identity

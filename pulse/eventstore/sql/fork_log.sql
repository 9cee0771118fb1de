-- Give the log a new identity and record the fork. Returns both identities, the end of the log, and
-- the time.
WITH before AS (
    SELECT log_id FROM log_identity
), renewed AS (
    UPDATE log_identity SET log_id = gen_random_uuid(), made_at = clock_timestamp()
    RETURNING log_id, made_at
)
INSERT INTO log_forks (number, position, size, known_size, old_log_id, new_log_id, forked_at,
                       forked_by, reason)
SELECT (SELECT COALESCE(max(number), 0) + 1 FROM log_forks),
       (SELECT COALESCE(max(notification_id), 0) FROM stored_events),
       %(size)b::bigint, %(known_size)b::bigint, before.log_id, renewed.log_id, renewed.made_at,
       %(forked_by)b::text, %(reason)b::text
  FROM before, renewed
RETURNING position, size, known_size, old_log_id, new_log_id, forked_at, forked_by, reason

-- The audit's place for its next window, when that is due, and whether this one ended a pass.
UPDATE queue_audit
   SET position = %(position)b::bigint,
       due_at = clock_timestamp() + make_interval(secs => %(pause_seconds)b::float8),
       last_pass_at = CASE WHEN %(ended)b::boolean THEN clock_timestamp() ELSE last_pass_at END
 WHERE application_name = %(projection)b

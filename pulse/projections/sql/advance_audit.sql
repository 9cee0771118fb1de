-- Store where the audit's next window starts, when it is due, and whether this window ended a pass.
UPDATE queue_audit
   SET position = %(position)b::bigint,
       due_at = clock_timestamp() + make_interval(secs => %(pause_seconds)b::float8),
       last_pass_at = CASE WHEN %(ended)b::boolean THEN clock_timestamp() ELSE last_pass_at END
 WHERE application_name = %(projection)b

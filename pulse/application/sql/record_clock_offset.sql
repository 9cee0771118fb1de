-- Store how far the clock of a process was from the database's, and delete rows older than 30 days.
WITH expired AS (
    DELETE FROM clock_offsets WHERE recorded_at < clock_timestamp() - interval '30 days'
)
INSERT INTO clock_offsets (instance, code_version, measurements, min_offset_seconds,
                           max_offset_seconds, max_error_seconds)
VALUES (%s, %s, %s, %s, %s, %s)

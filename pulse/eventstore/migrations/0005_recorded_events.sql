-- The log as other packages read it, with recorded times in the range that every client supports. The
-- planner inlines the function, so it costs no more than the table. It runs with the caller's
-- privileges.
CREATE OR REPLACE FUNCTION recorded_events()
RETURNS TABLE (notification_id bigint, originator_id uuid, originator_version bigint, topic text,
               state bytea, recorded_at timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT s.notification_id, s.originator_id, s.originator_version, s.topic, s.state,
           GREATEST('0001-01-01 00:00:00+00', LEAST(s.recorded_at, '9999-12-31 23:59:59.999999+00'))
      FROM stored_events s;
END;

-- The last id that the log's sequence has issued: 0 before the first id, null without the privilege to
-- read the sequence.
CREATE OR REPLACE FUNCTION last_issued_id() RETURNS bigint LANGUAGE sql
BEGIN ATOMIC
    SELECT CASE WHEN has_sequence_privilege(s.name, 'USAGE, SELECT')
                THEN COALESCE(pg_sequence_last_value(s.name::regclass), 0) END
      FROM (SELECT pg_get_serial_sequence('stored_events', 'notification_id') AS name) s;
END;

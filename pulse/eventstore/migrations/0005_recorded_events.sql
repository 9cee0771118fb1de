-- The log as other packages read it: the recorded times lie within what every client can hold. The
-- planner puts the function's body in its place, so it costs no more than the table, and it is run with
-- the rights of the caller, who needs no other grant than the one on the table.
CREATE OR REPLACE FUNCTION recorded_events()
RETURNS TABLE (notification_id bigint, originator_id uuid, originator_version bigint, topic text,
               state bytea, recorded_at timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT s.notification_id, s.originator_id, s.originator_version, s.topic, s.state,
           GREATEST('0001-01-01 00:00:00+00', LEAST(s.recorded_at, '9999-12-31 23:59:59.999999+00'))
      FROM stored_events s;
END;

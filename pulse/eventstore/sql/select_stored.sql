-- The events stored under these keys. After a lost reply the appender compares them with its own.
SELECT s.originator_id, s.originator_version, s.notification_id, s.topic, s.state
  FROM unnest(%b::uuid[], %b::bigint[]) AS k (originator_id, originator_version)
  JOIN stored_events s USING (originator_id, originator_version)

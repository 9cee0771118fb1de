-- The streams that have an event with a lower version than the one given, at a position above `since`.
-- LATERAL with LIMIT makes the planner look up each stream by its key.
SELECT stream.originator_id
  FROM ROWS FROM (pg_catalog.unnest(%(originator_ids)b::uuid[]), pg_catalog.unnest(%(versions)b::integer[]))
       AS stream (originator_id, version)
 CROSS JOIN LATERAL (
       SELECT
         FROM stored_events e
        WHERE e.originator_id = stream.originator_id
          AND e.originator_version < stream.version
          AND e.notification_id > %(since)b::bigint
        LIMIT 1) earlier

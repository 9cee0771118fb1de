-- The streams that have an event with a lower version than the one given for the stream. LATERAL with
-- LIMIT makes the planner look up each stream by its key.
SELECT stream.originator_id
  FROM ROWS FROM (pg_catalog.unnest(%b::uuid[]), pg_catalog.unnest(%b::integer[]))
       AS stream (originator_id, version)
 CROSS JOIN LATERAL (
       SELECT
         FROM stored_events e
        WHERE e.originator_id = stream.originator_id
          AND e.originator_version < stream.version
        LIMIT 1) earlier

-- Those of some streams that have an event of a lower version than the given one. LATERAL with LIMIT has
-- each stream looked up in the index of its key.
SELECT stream.originator_id
  FROM ROWS FROM (pg_catalog.unnest(%b::uuid[]), pg_catalog.unnest(%b::integer[]))
       AS stream (originator_id, version)
 CROSS JOIN LATERAL (
       SELECT
         FROM stored_events e
        WHERE e.originator_id = stream.originator_id
          AND e.originator_version < stream.version
        LIMIT 1) earlier

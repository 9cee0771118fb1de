-- Store the entries of the next events of the log, up to the last id that its sequence has issued.
-- Returns their number, the last position, the concatenated hashes of the leaves, and the last
-- entry; and whether the previously sealed last event is unchanged in the log, null if it is
-- missing. The states are not sent to the client.
WITH events AS MATERIALIZED (
    SELECT e.notification_id, seal_entry(e.notification_id, e.originator_id, e.originator_version,
                                         e.topic, e.state, e.recorded_at) AS entry
      FROM recorded_events() e
     WHERE e.notification_id > %(position)b::bigint
       AND e.notification_id <= (SELECT COALESCE(last_issued_id(), 9223372036854775807))
     ORDER BY e.notification_id
     LIMIT %(limit)b::bigint
), leaves AS MATERIALIZED (
    SELECT %(size)b::bigint + row_number() OVER (ORDER BY notification_id) - 1 AS leaf_index,
           notification_id, entry
      FROM events
), stored AS (
    INSERT INTO seal_entries (first_index, first_position, entries)
    SELECT min(leaf_index), min(notification_id),
           string_agg(int2send(octet_length(entry)::int2) || entry, '' ORDER BY leaf_index)
      FROM leaves
     GROUP BY leaf_index / 256
)
SELECT count(*), max(notification_id),
       string_agg(sha256('\x00'::bytea || entry), '' ORDER BY leaf_index),
       (SELECT entry FROM leaves ORDER BY leaf_index DESC LIMIT 1),
       (SELECT seal_entry(e.notification_id, e.originator_id, e.originator_version,
                          e.topic, e.state, e.recorded_at) = %(last_entry)b::bytea
          FROM recorded_events() e
         WHERE e.notification_id = %(position)b::bigint)
  FROM leaves

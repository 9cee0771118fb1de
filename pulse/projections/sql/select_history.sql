-- The sums of all windows that end at or before a position, the last position that they cover, and the
-- latest recorded time in them, null if there are none.
SELECT COALESCE(max(until_position), 0),
       max(max_recorded_at),
       COALESCE(sum(pending), 0)::bigint,
       COALESCE(sum(completed), 0)::bigint,
       COALESCE(sum(failed), 0)::bigint,
       COALESCE(sum(cancelled), 0)::bigint,
       COALESCE(sum(remaining_quantity), 0)::text,
       COALESCE(sum(released_quantity), 0)::text,
       COALESCE(sum(cancelled_quantity), 0)::text,
       COALESCE(sum(expired_quantity), 0)::text
  FROM queue_history
 WHERE until_position <= %b::bigint

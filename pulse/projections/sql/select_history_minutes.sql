-- The sums of the windows after a position, by the minute of their events. Windows within one
-- minute share a row; a window that may have events of several minutes has its own row, with
-- `straddles` true. Each row has its last position and the latest time recorded up to it. The time
-- of an event is the latest time recorded up to it; the parameter `recorded_until` is that of the
-- event at `after`.
WITH windows AS (
    SELECT h.*,
           GREATEST(%(recorded_until)b::timestamptz,
                    max(h.max_recorded_at) OVER (ORDER BY h.until_position)) AS recorded_until
      FROM queue_history h
     WHERE h.until_position > %(after)b::bigint
), placed AS (
    SELECT w.*,
           date_trunc('minute', w.recorded_until) AS minute,
           date_trunc('minute', w.recorded_until) IS DISTINCT FROM date_trunc('minute',
               lag(w.recorded_until, 1, %(recorded_until)b::timestamptz) OVER (ORDER BY w.until_position))
               AS straddles
      FROM windows w
)
SELECT minute, straddles, max(until_position), max(recorded_until),
       sum(pending)::bigint, sum(completed)::bigint, sum(failed)::bigint, sum(cancelled)::bigint,
       sum(remaining_quantity)::text, sum(released_quantity)::text,
       sum(cancelled_quantity)::text, sum(expired_quantity)::text
  FROM placed
 GROUP BY minute, straddles, CASE WHEN straddles THEN until_position END
 ORDER BY 3

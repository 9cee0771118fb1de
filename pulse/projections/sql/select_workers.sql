-- How many workers are present, and a row for each that holds orders: how many, since how many seconds
-- the longest, how many of them for longer than the timeout, and whether it is present. One row with
-- nulls where none holds any.
SELECT (SELECT count(*) FROM present_workers()), w.*
  FROM (SELECT) always
  LEFT JOIN (
       SELECT c.claimed_by, count(*),
              EXTRACT(EPOCH FROM clock_timestamp() - min(c.first_claimed_at))::float8,
              count(*) FILTER (WHERE c.first_claimed_at
                                     <= clock_timestamp() - make_interval(secs => %b::float8)),
              EXISTS (SELECT FROM present_workers() p WHERE p.name_hash = hashtext(c.claimed_by))
         FROM pending_orders c
        WHERE c.claimed_by IS NOT NULL
        GROUP BY c.claimed_by) w ON true
 ORDER BY w.claimed_by

-- How many workers are present, and a row for each worker with claims: the number of claims, the
-- age of the oldest in seconds, how many are older than the timeout, and whether the worker is
-- present. One row with nulls if there are no claims.
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

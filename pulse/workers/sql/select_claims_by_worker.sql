-- Who holds how many orders, since how many seconds the longest, how many of them for longer than
-- the timeout, and whether that worker is present (the condition is that of release_orphans).
SELECT c.claimed_by, count(*),
       EXTRACT(EPOCH FROM clock_timestamp() - min(c.first_claimed_at))::float8,
       count(*) FILTER (WHERE c.first_claimed_at
                              <= clock_timestamp() - make_interval(secs => %b::float8)),
       EXISTS (
           SELECT FROM pg_locks l
            WHERE l.locktype = 'advisory'
              AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND l.classid = %b::integer::oid
              AND l.objid = (hashtext(c.claimed_by)::bigint & 4294967295)::oid
              AND l.objsubid = 2
              AND l.granted)
  FROM order_claims c
 WHERE c.claimed_by IS NOT NULL
 GROUP BY c.claimed_by
 ORDER BY c.claimed_by

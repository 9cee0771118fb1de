-- Hand back what gone workers hold, unless it is old enough to be timed out. A worker takes its presence before it claims, and the locks are read after this statement's
-- snapshot of the claims: so a claim seen here without its lock is an orphan.
WITH orphans AS (
    SELECT c.order_id, c.claimed_by
      FROM order_claims c
     WHERE c.claimed_by IS NOT NULL
       AND c.first_claimed_at > clock_timestamp() - make_interval(secs => %b::float8)
       AND NOT EXISTS (SELECT FROM present_workers() p WHERE p.name_hash = hashtext(c.claimed_by))
       FOR UPDATE OF c SKIP LOCKED
)
UPDATE order_claims c
   SET claimed_by = NULL,
       claimed_at = NULL
  FROM orphans o
 WHERE c.order_id = o.order_id
RETURNING o.order_id, o.claimed_by

-- Release the claims of workers that are not present, unless they are old enough to time out. A
-- worker takes its presence lock before it claims, and the locks are read after the snapshot of the
-- claims. So a claim without a lock is orphaned. It is released only if it is unchanged: the order
-- may have been claimed again since the snapshot.
WITH orphans AS MATERIALIZED (
    SELECT p.created_position, p.claimed_by, p.claimed_at
      FROM pending_orders p
     WHERE p.claimed_by IS NOT NULL
       AND p.first_claimed_at > clock_timestamp() - make_interval(secs => %b::float8)
       AND NOT EXISTS (SELECT FROM present_workers() w WHERE w.name_hash = hashtext(p.claimed_by))
), locked AS (
    SELECT p.created_position, p.order_id, p.claimed_by
      FROM orphans o
      JOIN pending_orders p
        ON p.created_position = o.created_position
       AND p.claimed_by = o.claimed_by
       AND p.claimed_at = o.claimed_at
       FOR UPDATE OF p SKIP LOCKED
)
UPDATE pending_orders p
   SET claimed_by = NULL,
       claimed_at = NULL
  FROM locked l
 WHERE p.created_position = l.created_position
RETURNING l.order_id, l.claimed_by

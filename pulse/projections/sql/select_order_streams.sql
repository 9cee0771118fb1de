-- The streams of some orders; the row of a creation has the order's claim. Both are in one
-- snapshot, and an outcome is committed before its claim ends. So the end of a claim by an
-- outcome never makes an order appear PENDING. A claim is looked up by an index range, so that no
-- plan reads all pending orders.
SELECT s.*, p.claimed_by, p.claimed_at
  FROM recorded_events() s
  LEFT JOIN LATERAL (
       SELECT claimed_by, claimed_at
         FROM pending_orders
        WHERE s.originator_version = 1
          AND created_position BETWEEN s.notification_id AND s.notification_id
          AND order_id = s.originator_id
          AND claimed_by IS NOT NULL
        ORDER BY created_position
        LIMIT 1) p ON true
 WHERE s.originator_id = ANY (%b::uuid[])
 ORDER BY s.originator_id, s.originator_version

-- A page of orders as answered: claims laid over, slices joined for the page alone, and the
-- projection's position. One statement, thus one snapshot: no row is torn, none is newer than the
-- position. The position comes also when the page is empty. What finds the page is put in.
WITH page AS (
    /* page */
)
SELECT t.position AS as_of_position,
       p.created_position,
       p.order_id,
       p.order_unique_key,
       p.instrument,
       p.side,
       p.total_quantity,
       p.num_splits,
       p.duration_minutes,
       p.randomize,
       p.state,
       p.failure_reason,
       p.failure_message,
       p.version,
       p.position,
       p.placed_by,
       p.created_at,
       p.updated_at,
       p.split_completed_at,
       c.claimed_by,
       c.claimed_at,
       s.sequence_numbers,
       s.quantities,
       s.scheduled_ats
  FROM (SELECT COALESCE(max(notification_id), 0) AS position
          FROM notification_tracking
         WHERE application_name = %(projection)b) t
  LEFT JOIN page p ON true
  LEFT JOIN order_claims c
    ON c.order_id = p.order_id AND c.claimed_by IS NOT NULL AND p.state = 'PENDING'
  LEFT JOIN LATERAL (
       SELECT array_agg(sequence_number ORDER BY sequence_number) AS sequence_numbers,
              array_agg(quantity ORDER BY sequence_number) AS quantities,
              array_agg(scheduled_at ORDER BY sequence_number) AS scheduled_ats
         FROM order_slices
        WHERE order_id = p.order_id) s ON p.state = 'COMPLETED'
 ORDER BY p.created_position DESC

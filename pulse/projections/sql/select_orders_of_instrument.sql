-- The same of one instrument in whatever state: the three states' indexes, merged as they are read.
-- Each part has the limit too, so that each is read in its index's order and not sorted.
SELECT t.notification_id AS as_of_position, {columns}, c.claimed_by, c.claimed_at
  FROM notification_tracking t
  LEFT JOIN LATERAL (
       SELECT *
         FROM ((SELECT * FROM order_queue
                 WHERE (instrument, created_position) < (%(instrument)b::text, %(before)b::bigint)
                   AND instrument >= %(instrument)b::text
                   AND state = 'PENDING'
                 ORDER BY instrument DESC, created_position DESC
                 LIMIT %(rows)b::bigint)
                UNION ALL
               (SELECT * FROM order_queue
                 WHERE (instrument, created_position) < (%(instrument)b::text, %(before)b::bigint)
                   AND instrument >= %(instrument)b::text
                   AND state = 'COMPLETED'
                 ORDER BY instrument DESC, created_position DESC
                 LIMIT %(rows)b::bigint)
                UNION ALL
               (SELECT * FROM order_queue
                 WHERE (instrument, created_position) < (%(instrument)b::text, %(before)b::bigint)
                   AND instrument >= %(instrument)b::text
                   AND state = 'FAILED'
                 ORDER BY instrument DESC, created_position DESC
                 LIMIT %(rows)b::bigint)) newest
        ORDER BY instrument DESC, created_position DESC
        LIMIT %(rows)b::bigint) q ON true
  LEFT JOIN order_claims c ON c.order_id = q.order_id
 WHERE t.application_name = %(projection)b
 ORDER BY q.created_position DESC

-- Candidates of find_orders: the orders of a caller, newest first. Reads each bucket of search_key
-- (2^18 positions), newest first: the nested loop keeps the order of the series. Ranges, not an
-- equality: so only this index returns rows in the page's order.
SELECT o.*
  FROM generate_series((LEAST(%(before)b::bigint - 1, t.notification_id) >> 18) << 18,
                       (%(since)b::bigint >> 18) << 18,
                       -262144) WITH ORDINALITY bucket (position, number)
 CROSS JOIN LATERAL (
       SELECT *
         FROM order_queue
        WHERE (search_key(created_position, placed_by), created_position)
              < (search_key(bucket.position, %(placed_by)b::text), %(before)b::bigint)
          AND (search_key(created_position, placed_by), created_position)
              >= (search_key(bucket.position, %(placed_by)b::text), %(since)b::bigint)
          AND placed_by = %(placed_by)b::text
        ORDER BY search_key(created_position, placed_by) DESC, created_position DESC
        LIMIT %(examined)b::bigint) o
 ORDER BY bucket.number

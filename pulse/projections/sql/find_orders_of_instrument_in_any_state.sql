-- The same in whatever state: the three states' indexes, merged as they are read. Each part has the
-- limit too, so that each is read in its index's order and not sorted.
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
 LIMIT %(rows)b::bigint

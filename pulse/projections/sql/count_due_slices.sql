-- How many slices are due and not settled, of the 1,000 orders that have been due for the longest time.
SELECT count(*)
  FROM (SELECT created_position
          FROM due_orders
         WHERE due_at <= clock_timestamp()
         ORDER BY due_at
         LIMIT 1000) d
 CROSS JOIN LATERAL (
       SELECT settled
         FROM order_queue
        WHERE created_position BETWEEN d.created_position AND d.created_position
        ORDER BY created_position
        LIMIT 1) q
 CROSS JOIN LATERAL (
       SELECT
         FROM scheduled_slices s
        WHERE s.created_position = d.created_position
          AND s.sequence_number > length(q.settled)
          AND s.scheduled_at <= clock_timestamp()) s

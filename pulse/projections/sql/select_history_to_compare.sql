-- The rows of windows that end after a position and up to another, in order.
SELECT until_position, max_recorded_at, pending, completed, failed, cancelled,
       remaining_quantity::text, released_quantity::text, cancelled_quantity::text, expired_quantity::text
  FROM queue_history
 WHERE until_position > %b::bigint
   AND until_position <= %b::bigint
 ORDER BY until_position

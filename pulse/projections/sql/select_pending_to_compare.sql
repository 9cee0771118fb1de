-- The pending orders at some positions of creation, and all in a window of such positions. Last, whether
-- the claim's times are impossible: in the future, or in the wrong order.
SELECT created_position, order_id, created_at, splitter_version, instrument,
       claimed_at, first_claimed_at,
       GREATEST(claimed_at, first_claimed_at) > clock_timestamp() OR claimed_at < first_claimed_at
  FROM pending_orders
 WHERE created_position > %(after)b::bigint
   AND created_position <= %(until)b::bigint
 UNION ALL
SELECT created_position, order_id, created_at, splitter_version, instrument,
       claimed_at, first_claimed_at,
       GREATEST(claimed_at, first_claimed_at) > clock_timestamp() OR claimed_at < first_claimed_at
  FROM pending_orders
 WHERE created_position = ANY (%(positions)b::bigint[])

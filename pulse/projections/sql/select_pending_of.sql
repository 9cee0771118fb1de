-- The pending orders at some positions of creation.
SELECT created_position, order_id, created_at, splitter_version, instrument
  FROM pending_orders
 WHERE created_position = ANY (%b::bigint[])

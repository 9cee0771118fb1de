-- The number of orders without an outcome: those that wait, and those that workers hold.
SELECT count(*) FILTER (WHERE claimed_by IS NULL), count(*) FILTER (WHERE claimed_by IS NOT NULL)
  FROM pending_orders

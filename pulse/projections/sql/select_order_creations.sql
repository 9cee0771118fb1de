-- The creation of each order, which has its order_unique_key. An order that does not exist has a
-- row with a given state, so that the time does not reveal whether another caller's order exists.
SELECT asked.order_id, COALESCE(created.state, missing.state)
  FROM unnest(%b::uuid[]) AS asked (order_id)
 CROSS JOIN (SELECT %b::bytea AS state) missing
  LEFT JOIN recorded_events() created
    ON created.originator_id = asked.order_id AND created.originator_version = 1

-- The creation of each order, which has its order_unique_key. An order that does not exist has a
-- row too, so that the time does not reveal whether another caller's order exists.
SELECT asked.order_id, created.state
  FROM unnest(%b::uuid[]) AS asked (order_id)
  LEFT JOIN recorded_events() created
    ON created.originator_id = asked.order_id AND created.originator_version = 1

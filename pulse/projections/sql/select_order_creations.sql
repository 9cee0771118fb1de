-- A row for each order asked for: its creation, which alone says under which key it was placed. An
-- order that does not exist has a row too, so that it costs what another caller's order costs.
SELECT asked.order_id, created.state
  FROM unnest(%b::uuid[]) AS asked (order_id)
  LEFT JOIN recorded_events() created
    ON created.originator_id = asked.order_id AND created.originator_version = 1

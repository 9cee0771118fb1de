-- Outcomes of orders that an earlier batch created; tells what their slices are of.
UPDATE order_queue q
   SET state = o.state,
       failure_reason = o.failure_reason,
       failure_message = o.failure_message,
       version = o.version,
       position = o.position,
       updated_at = o.updated_at,
       split_completed_at = o.split_completed_at
  FROM unnest(
    %b::uuid[], %b::text[], %b::text[], %b::text[], %b::bigint[], %b::bigint[], %b::timestamptz[],
    %b::timestamptz[])
    AS o (order_id, state, failure_reason, failure_message, version, position, updated_at,
          split_completed_at)
 WHERE q.order_id = o.order_id
   AND q.state = 'PENDING'
RETURNING q.order_id, q.instrument, q.side

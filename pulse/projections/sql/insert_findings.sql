-- Keep what was found, as long as there are not too many to be read.
INSERT INTO queue_audit_findings (position, order_id, fault)
SELECT *
  FROM unnest(%b::bigint[], %b::uuid[], %b::text[])
 LIMIT GREATEST(0, %b::bigint - (SELECT count(*) FROM queue_audit_findings))
    ON CONFLICT DO NOTHING

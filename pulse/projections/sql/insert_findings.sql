-- Store findings, up to the maximum number in the table.
INSERT INTO queue_audit_findings (position, order_id, fault)
SELECT *
  FROM unnest(%b::bigint[], %b::uuid[], %b::text[])
 LIMIT GREATEST(0, %b::bigint - (SELECT count(*) FROM queue_audit_findings))
    ON CONFLICT DO NOTHING

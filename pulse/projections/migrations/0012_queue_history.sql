-- The order queue as of any position (docs/decisions/0029). A row sums up a window of the log: how its events
-- changed the number of orders by status and the quantities, and the latest recorded time in it. Windows have
-- 1024 positions and end at `until_position`; a window without events has no row. Rows come from the log alone
-- and are written once, so a rebuild does not touch them. Quantities are numeric: no sum can overflow.
CREATE TABLE queue_history (
    until_position bigint PRIMARY KEY,
    max_recorded_at timestamptz NOT NULL,
    pending bigint NOT NULL,
    completed bigint NOT NULL,
    failed bigint NOT NULL,
    cancelled bigint NOT NULL,
    remaining_quantity numeric NOT NULL,
    released_quantity numeric NOT NULL,
    cancelled_quantity numeric NOT NULL,
    expired_quantity numeric NOT NULL
);

-- The new table has the owner and the grants of due_orders.
DO $$
DECLARE
    grants record;
BEGIN
    EXECUTE format('ALTER TABLE queue_history OWNER TO %s',
                   (SELECT relowner::regrole::text FROM pg_class WHERE oid = 'due_orders'::regclass));
    FOR grants IN
        SELECT a.privilege_type, a.is_grantable,
               CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS grantee
          FROM pg_class c CROSS JOIN aclexplode(c.relacl) a
         WHERE c.oid = 'due_orders'::regclass
           AND a.grantee <> c.relowner
           AND a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
    LOOP
        EXECUTE format('GRANT %s ON queue_history TO %s%s', grants.privilege_type, grants.grantee,
                       CASE WHEN grants.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
    END LOOP;
END
$$;

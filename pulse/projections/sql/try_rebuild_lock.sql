-- The schema that the live tables are in, and whether no other rebuild runs: if so, none can begin while
-- this session lasts. Runs on the caller's search path, so nothing in it can be a function or operator
-- of another schema.
SELECT n.nspname, pg_catalog.pg_try_advisory_lock(%s::pg_catalog.int8)
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
 WHERE c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass('order_queue')::pg_catalog.oid

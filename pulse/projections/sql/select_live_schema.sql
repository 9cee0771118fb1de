-- The schema that the live tables are in, wherever the search path finds them. Runs on the caller's
-- search path, so nothing in it can be a function or operator of another schema.
SELECT n.nspname
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
 WHERE c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass('order_queue')::pg_catalog.oid

-- Apply settings to the session if it has this backend; those that this version of Postgres does not
-- have are skipped.
SELECT needed.name, pg_catalog.set_config(needed.name, needed.value, false)
FROM ROWS FROM (pg_catalog.unnest(%s::text[]), pg_catalog.unnest(%s::text[]))
    AS needed (name, value)
WHERE pg_catalog.pg_backend_pid() = %s
  AND (pg_catalog.current_setting(needed.name, true) IS NOT NULL
       OR pg_catalog.strpos(needed.name, '.') > 0)

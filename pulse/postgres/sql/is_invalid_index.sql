-- Whether there is an index of this name that no query can use, since its build was interrupted.
SELECT EXISTS (
    SELECT
      FROM pg_catalog.pg_index i
     WHERE i.indexrelid = pg_catalog.to_regclass(pg_catalog.quote_ident(%s)) AND NOT i.indisvalid)

-- End a statement of this transaction that takes longer.
SELECT set_config('statement_timeout', %s, true)

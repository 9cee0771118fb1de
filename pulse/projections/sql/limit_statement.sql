-- Set the statement timeout of this transaction.
SELECT set_config('statement_timeout', %s, true)

-- A rebuild's session has no statement timeout, and may be idle in a transaction for longer than others.
SELECT set_config('statement_timeout', '0', false),
       set_config('idle_in_transaction_session_timeout', %s, false)

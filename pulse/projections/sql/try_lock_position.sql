-- Lock the projection's position until the transaction ends. Returns it, and whether any order is
-- parked; no row if another process holds the lock. The settings are for this transaction: each
-- statement is planned once per connection, and without joins that scan a table, since the plan of
-- an empty table is still used when the table is large.
SELECT notification_id, EXISTS (SELECT FROM parked_orders),
       set_config('plan_cache_mode', 'force_generic_plan', true),
       set_config('enable_seqscan', 'off', true),
       set_config('enable_hashjoin', 'off', true),
       set_config('enable_mergejoin', 'off', true)
  FROM notification_tracking
 WHERE application_name = %b
   FOR UPDATE OF notification_tracking SKIP LOCKED

-- Lock the projection's position until the transaction ends, waiting for another holder, and return
-- it. The settings are those of try_lock_position.
SELECT notification_id,
       set_config('plan_cache_mode', 'force_generic_plan', true),
       set_config('enable_seqscan', 'off', true),
       set_config('enable_hashjoin', 'off', true),
       set_config('enable_mergejoin', 'off', true)
  FROM notification_tracking
 WHERE application_name = %b
   FOR UPDATE

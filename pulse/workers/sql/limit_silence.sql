-- End this session, and with it the presence, when nothing is heard of the worker for so long.
SELECT set_config('idle_session_timeout', %s, false)

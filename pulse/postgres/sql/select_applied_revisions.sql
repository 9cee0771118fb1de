-- The applied revisions in order.
SELECT revision, name, oldest_code FROM pulse_schema ORDER BY revision

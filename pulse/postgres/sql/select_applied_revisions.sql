-- The revisions that this database has, in order.
SELECT revision, name, oldest_code FROM pulse_schema ORDER BY revision

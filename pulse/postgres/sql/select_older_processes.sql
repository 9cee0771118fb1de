-- The processes of Pulse that use this database with code older than this revision, or with code from
-- before processes announced their revision: each as a text with its pid, its host and its revision. The
-- application name of a session is `pulse:<purpose>@<host>/r<revision>:<pid>` (`pulse.postgres.limits`).
SELECT DISTINCT pg_catalog.format(
           'process %%s of host %%s (%%s)',
           pg_catalog.substring(s.process, '([0-9]+)$'),
           pg_catalog.substring(s.process, '^(.*?)(?:/r[0-9]+)?:[0-9]+$'),
           COALESCE('revision ' || s.revision, 'older than 0.2.0'))
  FROM (SELECT pg_catalog.substring(a.application_name, '@(.*)$') AS process,
               pg_catalog.substring(a.application_name, '/r([0-9]+):[0-9]+$') AS revision
          FROM pg_catalog.pg_stat_activity a
         WHERE a.datname = pg_catalog.current_database()
           AND a.application_name LIKE 'pulse:%%@%%') s
 WHERE COALESCE(s.revision::integer, 0) < %s
 ORDER BY 1

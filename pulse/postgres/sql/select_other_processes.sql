-- The processes of Pulse with a session on this database, but not this one: host and pid, and the
-- `<purpose>` of each of their sessions. The application name of a session is
-- `pulse:<purpose>@<host>/r<revision>:<pid>`, older ones without the revision
-- (`pulse.postgres.limits`).
SELECT COALESCE(NULLIF(s.process, ''), 'unknown'), string_agg(DISTINCT s.part, ', ')
  FROM (SELECT regexp_replace(split_part(a.application_name, '@', 2), '/r[0-9]+:', ':') AS process,
               split_part(split_part(a.application_name, '@', 1), ':', 2) AS part
          FROM pg_catalog.pg_stat_activity a
         WHERE a.datname = pg_catalog.current_database()
           AND a.application_name LIKE 'pulse:%%') s
 WHERE s.process
       <> regexp_replace(split_part(pg_catalog.current_setting('application_name'), '@', 2), '/r[0-9]+:', ':')
 GROUP BY 1
 ORDER BY 1

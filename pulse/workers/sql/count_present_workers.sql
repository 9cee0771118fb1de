-- How many workers are present, whether they hold claims or not.
SELECT count(*)
  FROM pg_locks l
 WHERE l.locktype = 'advisory'
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND l.classid = %b::integer::oid
   AND l.objsubid = 2
   AND l.granted

-- Delete the workers that are not present, and return their names, each to one caller only. The locks
-- are read after the snapshot of the names, and a worker that stops deletes its name before it
-- releases its lock. So a worker that stopped is never returned. A name is deleted only if it is
-- unchanged: the worker may have reconnected since the snapshot.
WITH gone AS MATERIALIZED (
    SELECT w.name, w.present_since
      FROM order_workers w
     WHERE NOT EXISTS (SELECT FROM present_workers() p WHERE p.name_hash = hashtext(w.name))
)
DELETE FROM order_workers w
 USING gone g
 WHERE w.name = g.name
   AND w.present_since = g.present_since
RETURNING w.name

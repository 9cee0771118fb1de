-- How far the live projection has read the log; no process projects until the transaction ends.
SELECT notification_id
  FROM {live}.notification_tracking
 WHERE application_name = %b
   FOR UPDATE

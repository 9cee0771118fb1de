-- The last window whose events were all recorded before a time, and the latest time in it. Reads
-- backwards from the newest window.
SELECT until_position, max_recorded_at
  FROM queue_history
 WHERE max_recorded_at < %(before)b::timestamptz
 ORDER BY until_position DESC
 LIMIT 1

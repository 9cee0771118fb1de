-- The offsets of clocks that were recorded between two times, in order.
SELECT recorded_at, instance, code_version, measurements, min_offset_seconds, max_offset_seconds,
       max_error_seconds
  FROM clock_offsets
 WHERE recorded_at >= %b::timestamptz AND recorded_at <= %b::timestamptz
 ORDER BY recorded_at, instance

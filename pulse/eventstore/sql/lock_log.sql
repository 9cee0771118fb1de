-- Take the lock of the log, which every append takes, until the transaction ends.
SELECT lock_log(%b::bigint, %b::uuid)

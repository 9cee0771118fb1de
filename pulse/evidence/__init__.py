"""Evidence: the seal over the log, for third parties to check; verification of log and queue."""

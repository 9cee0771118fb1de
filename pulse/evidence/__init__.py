"""Evidence: the seal over the log, which others can check, and verification of log and queue."""

"""Use cases: placing and reading orders, readiness, notices, verification of the log."""

"""Background jobs: splitting, timeouts, recovery. No SQL: the projections own the tables."""

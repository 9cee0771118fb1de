"""Background jobs: splitting, releases, timeouts, recovery. No SQL: projections own the tables."""

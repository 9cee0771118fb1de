"""Use cases: orders, halts, the log, the past, evidence packs, readiness and notices."""

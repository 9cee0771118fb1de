"""Use cases: place an order, read orders; readiness, notices, verification."""

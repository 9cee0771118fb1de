"""Fault injection suite: real Pulse processes on a real Postgres, with measured results."""

"""Pulse over HTTP: the internal API, and what every door shares (errors, tracing, the root)."""

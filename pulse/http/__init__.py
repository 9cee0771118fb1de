"""Pulse over HTTP: the gateway, the internal API, and what both share."""

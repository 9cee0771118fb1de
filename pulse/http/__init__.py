"""Pulse over HTTP: the internal API, the gateway, and the code that they share."""

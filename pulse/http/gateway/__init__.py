"""The gateway: the public API, which authenticates every caller."""

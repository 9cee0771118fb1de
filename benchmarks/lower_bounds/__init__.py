"""Lower bounds: Pulse's API without storage, and a minimal ASGI application."""

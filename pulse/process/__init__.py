"""What one process of Pulse is composed of, and its supervisor. Only entry points import it."""

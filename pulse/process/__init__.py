"""The parts of one process of Pulse, and its supervisor. Only entry points import this package."""

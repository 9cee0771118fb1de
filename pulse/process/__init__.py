"""The parts of a Pulse process, and groups of processes. Only entry points import this package."""

"""The base class of Pulse's errors."""


class PulseError(Exception):
    """An expected error. Its message is written for the user who receives it."""

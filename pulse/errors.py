"""The base class of Pulse's errors."""


class PulseError(Exception):
    """An expected error. Its text is written for the user who gets it."""

"""The root of every error Pulse raises."""


class PulseError(Exception):
    """Something Pulse can say plainly; its text is meant for the person who meets it."""

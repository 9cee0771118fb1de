"""What can go wrong with the embedded server."""

from pulse.errors import PulseError


class EmbeddedServerError(PulseError):
    """The embedded Postgres server cannot do what was asked; the message says what to do."""

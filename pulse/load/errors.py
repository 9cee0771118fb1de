"""Why a load could not run or could not go on."""

from pulse.errors import PulseError


class LoadError(PulseError):
    """The load cannot run; the text is one line that says what to do."""

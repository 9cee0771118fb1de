"""The calendar of trading sessions that a process uses."""

from pulse.domain import SessionCalendar
from pulse.settings import Settings


def trading_calendar(settings: Settings) -> SessionCalendar | None:  # noqa: ARG001
    """The calendar of these settings; None if there is none, so orders that need one are 422."""
    return None

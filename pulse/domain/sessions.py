"""Trading sessions, and the calendar that orders take them from."""

from datetime import datetime
from typing import Protocol

from pulse.domain.values import Value
from pulse.errors import PulseError


class Session(Value, frozen=True):
    """One continuous trading session, half-open.

    Trading begins at `opens_at` and ends before `closes_at`. Both are in UTC.
    """

    opens_at: datetime
    closes_at: datetime


class SessionCalendar(Protocol):
    """Trading sessions by instrument. Pure data, no clock."""

    @property
    def digest(self) -> str:
        """The SHA-256 of the canonical content, in hex. OrderCreated records it."""

    def sessions(
        self, instrument: str, starts_at: datetime, until: datetime
    ) -> tuple[Session, ...]:
        """The sessions that overlap [starts_at, until), oldest first.

        Raises:
            OutsideCoverage: the calendar does not cover the whole range.
        """


class OutsideCoverage(PulseError):
    """The calendar covers only [covered_from, covered_before), not the whole requested range.

    Both are in UTC.
    """

    def __init__(self, covered_from: datetime, covered_before: datetime) -> None:
        self.covered_from = covered_from
        self.covered_before = covered_before
        super().__init__(
            f"the calendar of trading sessions covers {covered_from.isoformat()} to "
            f"{covered_before.isoformat()} only"
        )

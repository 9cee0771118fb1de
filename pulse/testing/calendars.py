"""A calendar of trading sessions for tests."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from hashlib import sha256

import msgspec

from pulse.domain import OutsideCoverage, Session


class ListedSessions:
    """A calendar with the same sessions for every instrument, as a file would list them.

    It covers [covered_from, covered_before); by default from a year before the first open to a year
    after the last close.
    """

    def __init__(
        self,
        sessions: Iterable[Session],
        covered_from: datetime | None = None,
        covered_before: datetime | None = None,
    ) -> None:
        self._sessions = tuple(sorted(sessions, key=lambda session: session.opens_at))
        year = timedelta(days=366)
        self._covered_from = covered_from or self._sessions[0].opens_at - year
        self._covered_before = covered_before or self._sessions[-1].closes_at + year

    @property
    def digest(self) -> str:
        """The SHA-256 of the coverage and the sessions."""
        content = (self._covered_from, self._covered_before, self._sessions)
        return sha256(msgspec.json.encode(content)).hexdigest()

    def sessions(
        self,
        instrument: str,  # noqa: ARG002 - of the protocol
        starts_at: datetime,
        until: datetime,
    ) -> tuple[Session, ...]:
        """The sessions that overlap [starts_at, until), oldest first.

        Raises:
            OutsideCoverage: the calendar does not cover the whole range.
        """
        if starts_at < self._covered_from or until > self._covered_before:
            raise OutsideCoverage(self._covered_from, self._covered_before)
        return tuple(s for s in self._sessions if s.opens_at < until and s.closes_at > starts_at)

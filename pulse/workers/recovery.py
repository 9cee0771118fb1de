"""Recovery after other processes: orders of gone workers go back, stalled sessions are ended.

Every process with a pool runs both.
"""

from collections import Counter
from collections.abc import Callable

import structlog

from pulse.loop import Job
from pulse.postgres import Database
from pulse.projections.claims import release_orphans
from pulse.projections.stalled_sessions import end_stalled_sessions

_log = structlog.get_logger(__name__)


class OrphanedClaims(Job[Counter[str]]):
    """Hands back what gone workers hold; `on_release` is called to wake workers."""

    name = "orphans"
    poll_seconds = 1.0

    def __init__(
        self,
        database: Database,
        *,
        timeout_seconds: float,
        on_release: Callable[[], None],
    ) -> None:
        self._database = database
        self._timeout_seconds = timeout_seconds
        self._on_release = on_release

    async def run_once(self) -> Counter[str]:
        """Hand back every orphan younger than the timeout; the older ones are the monitor's.

        Returns how many orders came back, by the worker that held them.

        Raises:
            DatabaseUnavailable: it may have been done or not; the next run finds out.
        """
        released = await release_orphans(self._database, self._timeout_seconds)
        for worker, orders in released.items():
            _log.warning("claims.orphans_released", worker=worker, orders=orders)
        if released:
            self._on_release()
        return released


class StalledSessions(Job[list[str]]):
    """Ends sessions of frozen or cut-off processes that hold locks all others need.

    What such a session was at is rolled back. It may have waited for its client for
    `silence_seconds`: as long as Postgres itself lets it wait between two statements.
    """

    name = "silence"
    poll_seconds = 0.5

    def __init__(self, database: Database, *, silence_seconds: float | None = None) -> None:
        self._database = database
        self._silence_seconds = (
            database.limits.idle_in_transaction_seconds
            if silence_seconds is None
            else silence_seconds
        )

    async def run_once(self) -> list[str]:
        """End them; returns the names under which they were connected.

        Raises:
            DatabaseUnavailable: it may have been done or not; the next run finds out.
        """
        ended = await end_stalled_sessions(self._database, self._silence_seconds)
        for name in ended:
            _log.warning("sessions.stalled_ended", session=name)
        return ended

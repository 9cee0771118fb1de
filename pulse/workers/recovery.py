"""Recovery from failed processes: orphaned claims, gone workers, stalled sessions.

API processes and worker processes run all three jobs.
"""

from collections import Counter
from collections.abc import Callable

import structlog

from pulse.loop import Job
from pulse.postgres import Database
from pulse.projections.claims import delete_gone_workers, release_orphans
from pulse.projections.stalled_sessions import terminate_stalled_sessions

_log = structlog.get_logger(__name__)


class OrphanedClaims(Job[Counter[str]]):
    """Releases the claims of workers that are no longer present; then calls `on_release`."""

    name = "orphaned-claims"
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
        """Release orphaned claims younger than the timeout; the timeout monitor handles older ones.

        Returns the number of released orders by the worker that held them.

        Raises:
            DatabaseUnavailable: the claims may or may not be released; the next run tries again.
        """
        released = await release_orphans(self._database, self._timeout_seconds)
        for worker, orders in released.items():
            _log.warning("claims.orphans_released", worker=worker, orders=orders)
        if released:
            self._on_release()
        return released


class GoneWorkers(Job[list[str]]):
    """Logs each worker that disappeared without stopping.

    It was killed, is frozen, or lost its connection. One process logs it, once. A worker that
    reconnects later is recorded again.
    """

    name = "gone-workers"
    poll_seconds = 5.0

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run_once(self) -> list[str]:
        """Log the gone workers that no process has logged yet, and return their names.

        Raises:
            DatabaseUnavailable: the next run tries again; a name may be deleted and not logged.
        """
        gone = await delete_gone_workers(self._database)
        for worker in gone:
            _log.warning("workers.gone", worker=worker)
        return gone


class StalledSessions(Job[list[str]]):
    """Terminates sessions of frozen or disconnected processes that hold locks other processes need.

    Postgres rolls back the open transaction. A session is stalled once it has waited for its client
    for `stalled_seconds`, or for `rebuild_stalled_seconds` if it is a rebuild. The defaults are the
    limits that Postgres applies between statements.
    """

    name = "stalled-sessions"
    poll_seconds = 0.5

    def __init__(
        self,
        database: Database,
        *,
        stalled_seconds: float | None = None,
        rebuild_stalled_seconds: float | None = None,
    ) -> None:
        limits = database.limits
        self._database = database
        self._stalled_seconds = (
            limits.idle_in_transaction_seconds if stalled_seconds is None else stalled_seconds
        )
        self._rebuild_stalled_seconds = (
            limits.rebuild_idle_in_transaction_seconds
            if rebuild_stalled_seconds is None
            else rebuild_stalled_seconds
        )

    async def run_once(self) -> list[str]:
        """Terminate the stalled sessions and return their application names.

        Raises:
            DatabaseUnavailable: the sessions may or may not have ended; the next run tries again.
        """
        terminated = await terminate_stalled_sessions(
            self._database, self._stalled_seconds, self._rebuild_stalled_seconds
        )
        for name in terminated:
            _log.warning("sessions.stalled_terminated", session=name)
        return terminated

"""The overview of one Pulse: the queue, its last hour by minute, lags, workers, halts, notices."""

import asyncio
from collections.abc import Callable, Mapping

import msgspec

from pulse.application.halts import HaltView, halt_view
from pulse.application.notices import HealthSnapshot, Notice
from pulse.application.readiness import Readiness
from pulse.eventstore import EventTooNew
from pulse.postgres import Connection, Database
from pulse.projections.claims import WorkerClaims
from pulse.projections.overview import PendingCounts, read_pending_counts
from pulse.projections.tally import QueueTally, Tally


class OverviewView(msgspec.Struct, frozen=True, kw_only=True):
    """The overview. Ages are by the database's clock.

    `oldest_waiting_seconds` and `oldest_in_progress_seconds` are None if there is no such order.
    `counts` are as of the tally's position, except for claims: they are not events, so they are
    current. `tally` is None if newer code wrote events that this code does not know, as during a
    rolling deploy; then `counts` has only the orders without an outcome. `halts_fault` is why the
    halts cannot be read, None if they can; with a fault `halts` is empty. `checks` are the
    readiness checks of this process that fail. `seal_lag_events` is None if nothing was ever sealed
    or the seal cannot be read.
    """

    tally: Tally | None
    counts: Mapping[str, int]
    oldest_waiting_seconds: float | None
    oldest_in_progress_seconds: float | None
    lag_events: int
    lag_seconds: float
    seal_lag_events: int | None
    seal_lag_seconds: float | None
    workers_present: int
    claims: tuple[WorkerClaims, ...]
    parked_orders: int
    due_orders: int
    oldest_due_seconds: float
    halts: tuple[HaltView, ...]
    halts_fault: str | None
    checks: Mapping[str, str]
    notices: tuple[Notice, ...]


class OverviewUnavailable(msgspec.Struct, frozen=True):
    """The overview cannot be read: the readiness checks that fail, each with its reason."""

    checks: Mapping[str, str]


class Overview:
    """Reads the overview. Its cost grows with the pending orders, not with finished ones.

    QueueTally counts the finished orders.
    """

    def __init__(
        self,
        database: Database,
        tally: QueueTally,
        readiness: Readiness,
        *,
        require_served: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._tally = tally
        self._readiness = readiness
        self._require_served = require_served

    async def read(self) -> OverviewView | OverviewUnavailable:
        """The overview now.

        Raises:
            DatabaseUnavailable: the queue cannot be read.
        """
        report, snapshot = await self._readiness.check_with_snapshot()
        checks = {name: reason for name, reason in report.checks.items() if reason}
        if snapshot is None:
            return OverviewUnavailable(checks)
        self._require_served()
        tally, pending = await asyncio.gather(
            self._read_tally(), self._database.read(_read_pending)
        )
        return _view(snapshot, tally, pending, checks, report.notices)

    async def _read_tally(self) -> Tally | None:
        try:
            return await self._tally.read()
        except EventTooNew:
            return None


async def _read_pending(connection: Connection) -> PendingCounts:
    return await read_pending_counts(connection)


def _view(
    snapshot: HealthSnapshot,
    tally: Tally | None,
    pending: PendingCounts,
    checks: Mapping[str, str],
    notices: tuple[Notice, ...],
) -> OverviewView:
    queue, claims, seal = snapshot.queue, snapshot.workers.claims, snapshot.seal
    sealed = seal is not None and seal.size > 0
    return OverviewView(
        tally=tally,
        counts=_counts(tally, pending),
        oldest_waiting_seconds=max(
            queue.oldest_waiting_seconds, queue.oldest_for_newer_code_seconds
        )
        if queue.waiting or queue.for_newer_code
        else None,
        oldest_in_progress_seconds=max((held.oldest_seconds for held in claims), default=None),
        lag_events=max(0, snapshot.log.end - snapshot.lag.position),
        lag_seconds=snapshot.lag.behind_seconds,
        seal_lag_events=max(0, snapshot.log.end - seal.position) if seal and sealed else None,
        seal_lag_seconds=seal.behind_seconds if seal and sealed else None,
        workers_present=snapshot.workers.present,
        claims=claims,
        parked_orders=snapshot.lag.parked_orders,
        due_orders=queue.due,
        oldest_due_seconds=queue.oldest_due_seconds,
        halts=tuple(map(halt_view, snapshot.halts.in_force)),
        halts_fault=snapshot.halts.fault,
        checks=checks,
        notices=notices,
    )


def _counts(tally: Tally | None, pending: PendingCounts) -> dict[str, int]:
    """Orders by status: those without an outcome are PENDING unless a worker holds them."""
    if tally is None:
        return {"PENDING": pending.waiting, "IN_PROGRESS": pending.claimed}
    totals = tally.totals
    in_progress = min(pending.claimed, totals.pending)
    return {
        "PENDING": totals.pending - in_progress,
        "IN_PROGRESS": in_progress,
        "COMPLETED": totals.completed,
        "CANCELLED": totals.cancelled,
        "FAILED": totals.failed,
    }

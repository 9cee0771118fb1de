"""The gauges of the whole database. One elected process reads them every 5 s and exports them."""

import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import psycopg

from pulse import metrics
from pulse.application.halts import ReleaseHalts
from pulse.application.known_halts import read_halts
from pulse.application.notices import (
    HealthSnapshot,
    notices_of,
    read_health_snapshot,
)
from pulse.application.role_rights import read_role_rights
from pulse.loop import Job
from pulse.postgres import Database, DatabaseUnavailable, describe
from pulse.projections.due_orders import count_due_slices
from pulse.projections.gauges_lock import GaugesLock
from pulse.projections.overview import (
    PendingCounts,
    QueueCounts,
    read_pending_counts,
    read_queue_counts,
)

MAX_COUNT_SECONDS: Final = 1.0
"""Counting all orders takes at most this long; a larger queue is estimated from a sample."""

COUNT_PAUSE_FACTOR: Final = 100
"""The pause after a count, as a multiple of its duration: counting takes 1 % of the time."""

_DONE: Final = ("COMPLETED", "CANCELLED", "FAILED")


class DatabaseGauges(Job[bool]):
    """Exports the gauges of `pulse.metrics.DATABASE_GAUGES` while this process holds the lock.

    A scrape exports what the last step has read; it queries nothing.
    """

    name = "database-gauges"
    poll_seconds = 5.0

    def __init__(
        self,
        database: Database,
        halts: ReleaseHalts,
        *,
        timeout_seconds: float,
        count: Callable[[], Awaitable[QueueCounts]] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._halts = halts
        self._timeout_seconds = timeout_seconds
        self._count = count or self._count_orders
        self._monotonic = monotonic
        self._lock: GaugesLock | None = None
        self._next_count_at = float("-inf")
        self._notices: set[tuple[str, str]] = set()

    async def run_once(self) -> bool:
        """Read and set the gauges; False if another process is elected.

        Raises:
            DatabaseUnavailable: they cannot be read, so this process exports none and is no longer
                elected.
        """
        if self._lock is None:
            self._lock = await GaugesLock.take(self._database)
            self._next_count_at = float("-inf")
        if self._lock is None:
            return False
        try:
            await self._read(self._lock)
        except psycopg.Error as error:
            await self.close()
            raise DatabaseUnavailable(describe(error)) from error
        except DatabaseUnavailable:
            await self.close()
            raise
        metrics.DATABASE_GAUGES.exported = True
        return True

    async def close(self) -> None:
        """Export no gauges, and let another process be elected."""
        metrics.DATABASE_GAUGES.exported = False
        lock, self._lock = self._lock, None
        if lock is not None:
            await lock.release()

    async def _read(self, lock: GaugesLock) -> None:
        connection = lock.connection
        halts = await read_halts(self._halts)
        snapshot = await read_health_snapshot(connection, self._timeout_seconds, halts)
        due = await count_due_slices(connection)
        pending = await read_pending_counts(connection)
        rights = await read_role_rights(connection)
        snapshot = msgspec.structs.replace(snapshot, rights=rights)
        await self._count_if_due()
        _set(snapshot, pending, due)
        self._set_notices(snapshot)

    def _set_notices(self, snapshot: HealthSnapshot) -> None:
        notices = {(n.code, str(n.needs_person).lower()) for n in notices_of(snapshot)}
        for labels in notices:
            metrics.NOTICES.labels(*labels).set(1)
        for labels in self._notices - notices:
            metrics.NOTICES.remove(*labels)
        self._notices = notices

    async def _count_if_due(self) -> None:
        """Count the orders that have an outcome, if the last count was long enough ago."""
        started_at = self._monotonic()
        if started_at < self._next_count_at:
            return
        counts = await self._count()
        now = self._monotonic()
        self._next_count_at = now + (now - started_at) * COUNT_PAUSE_FACTOR
        for status in _DONE:
            metrics.ORDERS.labels(status).set(counts.orders(status))

    async def _count_orders(self) -> QueueCounts:
        return await read_queue_counts(self._database, max_exact_seconds=MAX_COUNT_SECONDS)


def _set(snapshot: HealthSnapshot, pending: PendingCounts, due_slices: int) -> None:
    queue, workers, lag = snapshot.queue, snapshot.workers, snapshot.lag
    metrics.ORDERS.labels("PENDING").set(pending.waiting)
    metrics.ORDERS.labels("IN_PROGRESS").set(pending.claimed)
    metrics.OLDEST_PENDING.set(
        max(queue.oldest_waiting_seconds, queue.oldest_for_newer_code_seconds)
    )
    metrics.LAG_EVENTS.set(max(0, snapshot.log.end - lag.position))
    metrics.LAG_SECONDS.set(lag.behind_seconds)
    metrics.PARKED.set(lag.parked_orders)
    metrics.CLAIMS.labels("present").set(pending.claimed - workers.orphaned_claims)
    metrics.CLAIMS.labels("gone").set(workers.orphaned_claims)
    metrics.WORKERS.set(workers.present)
    metrics.SLICES_DUE.set(due_slices)
    metrics.OLDEST_DUE.set(queue.oldest_due_seconds)
    metrics.HALTS.set(len(snapshot.halts.in_force))
    if snapshot.seal is not None:
        metrics.SEAL_LAG_EVENTS.set(max(0, snapshot.log.end - snapshot.seal.position))

"""One process of Pulse: its store, its projector, its workers, wired and brought to life."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, TypeVar

import structlog

from pulse.application import (
    ClockWatch,
    InProcessOrders,
    NoticeWatch,
    Origin,
    OwnParts,
    Readiness,
    system_clock,
)
from pulse.errors import PulseError
from pulse.eventstore import LOG_CHANNEL, AppendLimits, EventStore
from pulse.postgres import Database, Listener, Notifier, WakeUp
from pulse.process.schema import CHECK_SECONDS, SchemaGate
from pulse.process.supervisor import Service
from pulse.projections import BUSY_SECONDS, Audit, Busy, OrderReader, Projected, Projector
from pulse.settings import Settings
from pulse.workers import (
    CLAIMS_CHANNEL,
    NOW,
    Claims,
    Fate,
    Loop,
    OrphanedClaims,
    Presence,
    SilentClients,
    SplitBatch,
    SplittingWorker,
    TimeoutMonitor,
    reader_of_workers,
)

_log = structlog.get_logger(__name__)

_AFTER_HANDING_BACK_SECONDS: Final = 0.5
_NOT_PRESENT_SECONDS: Final = 0.1
_ORPHAN_CHECK_SECONDS: Final = 1.0
_SILENCE_CHECK_SECONDS: Final = 0.5
_CLOCK_CHECK_SECONDS: Final = 1.0
_NOTICE_CHECK_SECONDS: Final = 5.0
_AUDIT_CHECK_SECONDS: Final = 0.5
_CATCH_UP_SECONDS: Final = 3.0
_PROJECTED_EVENTS: Final = 1000
_BETWEEN_PROJECTIONS_SECONDS: Final = 0.005

AnyLoop = Loop[Any]
T = TypeVar("T")


class Node:
    """Everything one process has, on one pool. Built without I/O; `running` brings it to life."""

    def __init__(self, settings: Settings, conninfo: str) -> None:
        self._settings = settings
        self._database = Database(conninfo, pool_size=settings.pool_size)
        self._gate = SchemaGate(self._database, migrate=settings.migrate)
        self._log_advanced = WakeUp()
        self._queue_advanced = WakeUp()
        self._log_notifier = Notifier(self._database, LOG_CHANNEL)
        self._claims_notifier = Notifier(self._database, CLAIMS_CHANNEL)
        self._store = EventStore(
            self._database,
            on_commit=self._on_commit,
            limits=AppendLimits(queue_events=settings.append_queue_events),
        )
        self._projector = Projector(
            self._database, self._store.mapper, batch_events=_PROJECTED_EVENTS
        )
        self._seen_position = -1
        self._origin = Origin.of_this_process()
        self._clock_watch = ClockWatch(
            self._database, system_clock, most_seconds=settings.max_clock_offset_seconds
        )
        reader = OrderReader(self._database, self._store.mapper)
        self.orders = InProcessOrders(
            self._store,
            reader,
            self._clock_watch.stamp,
            self._origin,
            require_served=self._gate.require,
        )
        self._presence: Presence | None = None
        self._working: list[AnyLoop] = []
        self._projecting = self._projector_loop()
        self.readiness = Readiness(
            self._database,
            OwnParts(
                schema=self._gate.fault_at,
                append=self._store.appender.fault,
                projector=lambda: self._projector.fault or self._projecting.fault,
                others=self._own_checks,
            ),
            reader_of_workers(settings.timeout_seconds),
        )

    @asynccontextmanager
    async def running(self, *, with_workers: bool) -> AsyncIterator[None]:
        """Serve from the first attempt to reach Postgres on; if it is away, go on trying.

        On leaving, each worker finishes its batch or hands it back, the outcomes are projected,
        what waits to be appended is written, and only then connections close.

        Raises:
            SchemaNotCurrent: the schema cannot be made what this code needs.
            LogUnfit: accepted orders could be lost in this database.
        """
        async with AsyncExitStack() as stack:
            await self._database.open()
            stack.push_async_callback(self._database.close)
            for service in self._always():
                service.start(stack)
            working = asyncio.create_task(self._work_when_migrated(stack, with_workers))
            try:
                await self._gate.tried.wait()
                if self._gate.opened or working.done():
                    await working  # the first order must not meet a clock not yet measured
                yield
            finally:
                working.cancel()
                with contextlib.suppress(asyncio.CancelledError, PulseError):
                    await working

    def _always(self) -> list[Service]:
        listener = Listener(self._database, LOG_CHANNEL, self._log_advanced)
        appender = self._store.appender
        return [
            Service("log-notifier", self._log_notifier.run),
            Service("claims-notifier", self._claims_notifier.run),
            Service("listener", listener.run),
            Service("appender", appender.run, request_stop=appender.drain),
        ]

    async def _work_when_migrated(self, stack: AsyncExitStack, with_workers: bool) -> None:  # noqa: FBT001
        await self._gate.wait()
        with contextlib.suppress(PulseError):
            await self._clock_watch.run_once()
        loops = [self._schema_loop(), self._clock_loop(), self._silence_loop(), self._projecting]
        for loop in (*loops, self._notice_loop()):
            _service(loop).start(stack)
        presence = Presence(self._database, self._origin.instance, self._queue_advanced)
        if with_workers:  # present until its claims have ended: others would hand them back
            Service("presence", presence.run).start(stack)
        stack.push_async_callback(self._catch_up)
        _service(self._orphans_loop()).start(stack)
        if with_workers:
            self._presence = presence
            self._working = [self._timeouts_loop(), self._splitting_loop(presence)]
            for loop in (self._audit_loop(), *self._working):
                _service(loop).start(stack)

    def _own_checks(self) -> dict[str, str | None]:
        """The clock, and the workers where this process has any."""
        checks = {"clock": self._clock_watch.fault}
        if self._presence is not None:
            faults = [self._presence.fault, *(loop.fault for loop in self._working)]
            checks["workers"] = "; ".join(filter(None, faults)) or None
        return checks

    def _on_commit(self) -> None:
        """After a commit of this process's own: wake the projector here, then the others'."""
        self._log_advanced.set()
        self._log_notifier.notify()

    def _on_release(self) -> None:
        """Orders came back: wake the worker here, then the others'."""
        self._queue_advanced.set()
        self._claims_notifier.notify()

    async def _project(self) -> Projected | Busy:
        """Project, and wake the worker when the queue moved, whichever process moved it."""
        result = await self._projector.run_once()
        if isinstance(result, Projected) and result.position != self._seen_position:
            self._seen_position = result.position
            self._queue_advanced.set()
            if result.foreign:
                _log.info("projection.foreign_skipped", events=result.foreign)
        return result

    async def _catch_up(self) -> None:
        """Project what the workers did last, so that no claim outlives its worker's clean end.

        Not what others append meanwhile: while orders pour in, the log's end is never reached.
        """
        with contextlib.suppress(PulseError, TimeoutError):
            self._gate.require()
            async with asyncio.timeout(_CATCH_UP_SECONDS):
                await self._projector.run_until(await self._store.end())

    def _while_served(self, step: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[T]]:
        """The step, which fails while this process may not work on the database's schema."""

        async def served() -> T:
            self._gate.require()
            return await step()

        return served

    def _schema_loop(self) -> AnyLoop:
        return Loop("schema", self._gate.run_once, _poll, poll_seconds=CHECK_SECONDS)

    def _projector_loop(self) -> AnyLoop:
        return Loop(
            "projector",
            self._while_served(self._project),
            _pause_after_projecting,
            wake_up=self._log_advanced,
            poll_seconds=self._settings.poll_interval_seconds,
            least_seconds=_BETWEEN_PROJECTIONS_SECONDS,
        )

    def _clock_loop(self) -> AnyLoop:
        return Loop(
            "clock",
            self._clock_watch.run_once,
            _poll,
            wake_up=self._clock_watch.doubted,
            poll_seconds=_CLOCK_CHECK_SECONDS,
        )

    def _notice_loop(self) -> AnyLoop:
        watch = NoticeWatch(self.readiness.notices)
        return Loop("notices", watch.run_once, _poll, poll_seconds=_NOTICE_CHECK_SECONDS)

    def _audit_loop(self) -> AnyLoop:
        audit = Audit(self._database)
        return Loop("audit", audit.run_once, _poll, poll_seconds=_AUDIT_CHECK_SECONDS)

    def _silence_loop(self) -> AnyLoop:
        return Loop(
            "silence",
            SilentClients(self._database).run_once,
            _poll,
            poll_seconds=_SILENCE_CHECK_SECONDS,
        )

    def _orphans_loop(self) -> AnyLoop:
        orphans = OrphanedClaims(
            self._database,
            own_worker=self._origin.instance,
            timeout_seconds=self._settings.timeout_seconds,
            on_release=self._on_release,
        )
        step = self._while_served(orphans.run_once)
        return Loop("orphans", step, _poll, poll_seconds=_ORPHAN_CHECK_SECONDS)

    def _timeouts_loop(self) -> AnyLoop:
        monitor = TimeoutMonitor(
            self._database,
            self._store,
            self._clock_watch.corrected,
            self._origin,
            timeout_seconds=self._settings.timeout_seconds,
        )
        return Loop(
            "timeouts",
            self._while_served(monitor.run_once),
            lambda batch: NOW if batch.timed_out else None,
            poll_seconds=self._settings.timeout_check_interval_seconds,
        )

    def _splitting_loop(self, presence: Presence) -> AnyLoop:
        settings = self._settings
        worker = SplittingWorker(
            self._store,
            Claims(self._database, presence.worker),
            self._clock_watch.corrected,
            self._origin,
            batch_size=settings.batch_size,
            max_split_delay_seconds=settings.max_split_delay_seconds,
            timeout_seconds=settings.timeout_seconds,
        )

        async def split_while_present() -> SplitBatch | None:
            return await worker.run_once() if presence.held else None

        return Loop(
            "splitting",
            self._while_served(split_while_present),
            lambda batch: _pause_after_splitting(batch, settings.batch_size),
            wake_up=self._queue_advanced,
            poll_seconds=settings.poll_interval_seconds,
        )


def _service(loop: AnyLoop) -> Service:
    return Service(loop.name, loop.run, request_stop=loop.stop)


def _poll(_: object) -> None:
    """Rest until the next poll, whatever came of it."""


def _pause_after_projecting(result: Projected | Busy) -> float | None:
    if isinstance(result, Busy):
        return BUSY_SECONDS
    return NOW if result.events == _PROJECTED_EVENTS else None


def _pause_after_splitting(batch: SplitBatch | None, batch_size: int) -> float | None:
    if batch is None:
        return _NOT_PRESENT_SECONDS
    if batch.fates.keys() & {Fate.HANDED_BACK, Fate.LEFT_TO_NEWER, Fate.UNKNOWN}:
        return _AFTER_HANDING_BACK_SECONDS
    return NOW if batch.claimed == batch_size else None

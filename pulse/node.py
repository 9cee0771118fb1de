"""One process of Pulse: its store, its projector, its workers, started and stopped in order."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import psycopg
import structlog

from pulse.application import InProcessOrders, Origin, Readiness, system_clock
from pulse.errors import PulseError
from pulse.eventstore import LOG_CHANNEL, AppendLimits, EventStore
from pulse.postgres import Database, Listener, Notifier, WakeUp, describe
from pulse.postgres.migrations import Migrations, SchemaNotCurrent
from pulse.projections import Busy, OrderReader, Projected, Projector
from pulse.settings import Settings
from pulse.workers import NOW, Claims, Fate, Loop, SplitBatch, SplittingWorker

_log = structlog.get_logger(__name__)

MIGRATED_ROOMS: Final = ("pulse.eventstore", "pulse.workers", "pulse.projections")

_RETRY_SECONDS: Final = 1.0
_BUSY_SECONDS: Final = 0.01
_AFTER_HANDING_BACK_SECONDS: Final = 0.5
_STOP_SECONDS: Final = 10.0
_PROJECTED_EVENTS: Final = 1000


class Node:
    """Everything one process has, on one pool. Built without I/O; `running` brings it to life."""

    def __init__(self, settings: Settings, conninfo: str) -> None:
        self._settings = settings
        self._database = Database(conninfo, pool_size=settings.pool_size)
        self._migrations = Migrations(MIGRATED_ROOMS)
        self._log_advanced = WakeUp()
        self._queue_advanced = WakeUp()
        self._notifier = Notifier(self._database, LOG_CHANNEL)
        self._listener = Listener(self._database, LOG_CHANNEL, self._log_advanced)
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
        reader = OrderReader(self._database, self._store.mapper)
        self.orders = InProcessOrders(self._store, reader, system_clock, self._origin)
        self.readiness = Readiness(self._database, self._migrations.fault)

    @asynccontextmanager
    async def running(self, *, with_workers: bool) -> AsyncIterator[None]:
        """Serve from the first attempt to reach Postgres on; if it is away, go on trying.

        On leaving, each worker finishes its batch or hands it back, what waits to be appended is
        written, and only then connections close.
        """
        first_attempt, migrated = asyncio.Event(), asyncio.Event()
        loops = [self._projector_loop()] + ([self._worker_loop()] if with_workers else [])
        await self._database.open()
        appender = _background("appender", self._store.appender.run)
        others = [
            _background("notifier", self._notifier.run),
            _background("listener", self._listener.run),
        ]
        work = asyncio.create_task(self._work(loops, first_attempt, migrated))
        try:
            await _either(first_attempt.wait(), work)
            yield
        finally:
            for loop in reversed(loops):
                loop.stop()
            await _ended(work, cancel=not migrated.is_set())
            self._store.appender.drain()
            await _ended(appender)
            for task in others:
                await _ended(task, cancel=True)
            await self._database.close()

    async def _work(
        self, loops: "list[Loop[Any]]", first_attempt: asyncio.Event, migrated: asyncio.Event
    ) -> None:
        await self._until_migrated(first_attempt)
        migrated.set()
        first_attempt.set()
        async with asyncio.TaskGroup() as tasks:
            for loop in loops:
                tasks.create_task(loop.run())

    async def _until_migrated(self, first_attempt: asyncio.Event) -> None:
        """Try until the schema is current; only what is hopeless from the start is an error."""
        reported: str | None = None
        while True:
            try:
                fault = await asyncio.to_thread(self._migrate_or_look)
            except psycopg.OperationalError as error:
                fault = f"Postgres cannot be reached: {describe(error)}"
            except (psycopg.Error, PulseError) as error:
                if not first_attempt.is_set():
                    raise SchemaNotCurrent(f"the schema cannot be made current: {error}") from error
                fault = str(error)
            if fault is None:
                return
            if fault != reported:
                _log.warning(
                    "postgres.not_ready",
                    reason=fault,
                    retry_seconds=_RETRY_SECONDS,
                    meanwhile="orders are answered 503",
                )
                reported = fault
            first_attempt.set()
            await asyncio.sleep(_RETRY_SECONDS)

    def _migrate_or_look(self) -> str | None:
        conninfo, limits = self._database.conninfo, self._database.limits
        if self._settings.migrate:
            self._migrations.migrate(conninfo, limits)
            return None
        return self._migrations.fault(self._migrations.current(conninfo, limits))

    def _on_commit(self) -> None:
        """After a commit of this process's own: wake the projector here, then the others'."""
        self._log_advanced.set()
        self._notifier.notify()

    async def _project(self) -> Projected | Busy:
        """Project, and wake the worker when the queue moved, whichever process moved it."""
        result = await self._projector.run_once()
        if isinstance(result, Projected) and result.position != self._seen_position:
            self._seen_position = result.position
            self._queue_advanced.set()
        return result

    def _projector_loop(self) -> "Loop[Projected | Busy]":
        return Loop(
            "projector",
            self._project,
            _pause_after_projecting,
            wake_up=self._log_advanced,
            poll_seconds=self._settings.poll_interval_seconds,
        )

    def _worker_loop(self) -> "Loop[SplitBatch]":
        settings = self._settings
        worker = SplittingWorker(
            self._store,
            Claims(self._database, self._origin.instance),
            system_clock,
            self._origin,
            batch_size=settings.batch_size,
            max_split_delay_seconds=settings.max_split_delay_seconds,
        )
        return Loop(
            "splitting",
            worker.run_once,
            lambda batch: _pause_after_splitting(batch, settings.batch_size),
            wake_up=self._queue_advanced,
            poll_seconds=settings.poll_interval_seconds,
        )


def _pause_after_projecting(result: Projected | Busy) -> float | None:
    if isinstance(result, Busy):
        return _BUSY_SECONDS
    return NOW if result.events == _PROJECTED_EVENTS else None


def _pause_after_splitting(batch: SplitBatch, batch_size: int) -> float | None:
    if batch.fates[Fate.HANDED_BACK]:
        return _AFTER_HANDING_BACK_SECONDS
    return NOW if batch.claimed == batch_size else None


def _background(name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> "asyncio.Task[None]":
    """Run it, and run it again should it ever crash: the process lives on its background tasks."""

    async def kept_up() -> None:
        while True:
            try:
                await run()
            except Exception:  # noqa: BLE001 - a bug is logged; the process goes on
                _log.exception("background.crashed", task=name)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    return asyncio.create_task(kept_up(), name=name)


async def _either(first: Awaitable[Any], second: "asyncio.Task[None]") -> None:
    """Return when one of them has ended; an error of the second is raised."""
    waiting = asyncio.ensure_future(first)
    await asyncio.wait({waiting, second}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if second.done():
        second.result()


async def _ended(task: "asyncio.Task[None]", *, cancel: bool = False) -> None:
    """Wait for a task to end, cancelled now or when the time to stop is up."""
    if cancel:
        task.cancel()
    done, _ = await asyncio.wait({task}, timeout=_STOP_SECONDS)
    if not done:
        task.cancel()
        await asyncio.wait({task}, timeout=1.0)

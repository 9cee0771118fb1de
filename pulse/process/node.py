"""One process of Pulse: builds the event store, the projector and the workers, and runs them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from pulse import metrics
from pulse.application.clock_record import ClockRecord
from pulse.application.clock_watch import ClockWatch
from pulse.application.database_gauges import DatabaseGauges
from pulse.application.due import DueSlices
from pulse.application.event_feed import EventFeed, FeedLimits
from pulse.application.failures import Failures
from pulse.application.halts import ReleaseHalts
from pulse.application.in_process import InProcessOrders
from pulse.application.list_reads import ListReads, Replica
from pulse.application.notices import (
    PROCESS_NOTICES,
    NoticeWatch,
    ProcessState,
    process_notices,
)
from pulse.application.origin import Origin, system_clock
from pulse.application.overview import Overview
from pulse.application.past import Past
from pulse.application.readiness import Readiness
from pulse.application.seal_status import SealReader
from pulse.domain import SessionCalendar
from pulse.errors import PulseError
from pulse.eventstore import LOG_CHANNEL, AppendLimits, EventStore
from pulse.evidence.tree import SealedLog
from pulse.http.server_sent_events import render_event
from pulse.loop import Loop, WakeUp
from pulse.market_calendar import SHIPPED, MarketCalendar, load
from pulse.postgres import Database, Listener, Notifier
from pulse.process.background_services import BackgroundServices
from pulse.process.revisions import HEAD
from pulse.process.schema import SchemaGate
from pulse.process.seal import own_verifier, sealer_of
from pulse.process.server import Server, open_server
from pulse.process.startup import on_stop_signal
from pulse.projections.audit import Audit
from pulse.projections.claims import CLAIMS_CHANNEL, Claims, Presence
from pulse.projections.order_view import OrderReader
from pulse.projections.projector import BUSY_SECONDS, Projector
from pulse.projections.queue_history import HistorySummary, QueueHistory
from pulse.projections.tally import QueueTally
from pulse.settings import Settings
from pulse.workers.recovery import GoneWorkers, OrphanedClaims, StalledSessions
from pulse.workers.releases import Releaser
from pulse.workers.splitting import SplittingWorker
from pulse.workers.timeouts import TimeoutMonitor

if TYPE_CHECKING:
    from pulse.spans import Spans

_log = structlog.get_logger(__name__)

MAX_CATCH_UP_SECONDS: Final = 3.0
"""The time limit of a stopping process for projecting the last events, and again for sealing."""

IN_GROUP_POLL_SECONDS: Final = 1.0
"""How often a process without workers, in a group, checks whether the projection has stopped."""


class WorkerLocation(Enum):
    """Where the workers run: in this process, in another process of its group, or elsewhere.

    A group always has workers: its supervisor replaces a process that ends. Elsewhere there may be
    none.
    """

    HERE = auto()
    IN_GROUP = auto()
    ELSEWHERE = auto()


class _Notified(WakeUp):
    """A wake-up that calls a function instead of waking a waiter."""

    def __init__(self, on_set: Callable[[], None]) -> None:
        super().__init__()
        self._on_set = on_set

    def set(self) -> None:
        self._on_set()


class Node:
    """All services of one process, and its connection pools. No I/O until `running`.

    With workers IN_GROUP, the processes that have them project and seal the log, and write the
    notices to their log output. This process projects only events that were not projected within a
    second.
    """

    def __init__(
        self,
        settings: Settings,
        server: Server,
        *,
        workers: WorkerLocation,
        calendar: SessionCalendar | None = None,
        spans: "Spans | None" = None,
    ) -> None:
        self._settings = settings
        self._spans = spans
        self._workers = workers
        in_group = workers is WorkerLocation.IN_GROUP
        self._origin = Origin.of_this_process()
        self._database = Database(server.conninfo, pool_size=settings.pool_size, code_revision=HEAD)
        self._replica: Replica | None = None
        if settings.read_database_url is not None:
            self._replica = Replica(
                self._database, settings.read_database_url, pool_size=settings.pool_size
            )
        self._gate = SchemaGate(
            self._database,
            migrate=settings.migrate,
            superuser_conninfo=server.superuser_conninfo,
        )
        self._log_advanced, self._queue_advanced = WakeUp(), WakeUp()
        self._slices_advanced = WakeUp()
        self._log_notifier = Notifier(self._database, LOG_CHANNEL)
        self._claims_notifier = Notifier(self._database, CLAIMS_CHANNEL)
        self._clock_watch = ClockWatch(
            self._database, system_clock, max_offset_seconds=settings.max_clock_offset_seconds
        )
        self._store = EventStore(
            self._database,
            on_commit=self._on_commit,
            limits=AppendLimits(queue_events=settings.append_queue_events),
            spans=spans,
            require_standby=settings.require_synchronous_standby,
        )
        lists = ListReads(self._database, self._store.end, self._replica)
        reader = OrderReader(self._database, self._store.mapper)
        history = QueueHistory(self._database, self._store.mapper)
        self.past = Past(self._store, reader, history, require_served=self._gate.require)
        self.orders = InProcessOrders(
            self._store,
            reader,
            self._clock_watch.stamp,
            self._origin,
            require_served=self._gate.require,
            release_slices=settings.release_slices,
            session_policy=settings.session_policy,
            calendar=calendar,
            lists=lists,
        )
        self.feed = EventFeed(
            self._store,
            render_event,
            limits=FeedLimits(streams=settings.max_streams),
            require_served=self._gate.require,
        )
        self.halts = ReleaseHalts(
            self._store,
            self._clock_watch.corrected,
            self._origin,
            require_served=self._gate.require,
        )
        self.due = DueSlices(
            self._database, self._store, require_served=self._gate.require, lists=lists
        )
        self.failures = Failures(self._database, self.orders, require_served=self._gate.require)
        self._gauges = DatabaseGauges(
            self._database, self.halts, timeout_seconds=settings.timeout_seconds
        )
        self._projector = Projector(
            self._database,
            self._store.mapper,
            on_advance=self._on_advance,
            busy_seconds=IN_GROUP_POLL_SECONDS if in_group else BUSY_SECONDS,
        )
        self._projector_loop = Loop(
            self._projector,
            wake_up=WakeUp() if in_group else self._log_advanced,
            poll_seconds=IN_GROUP_POLL_SECONDS if in_group else settings.poll_interval_seconds,
            require=self._gate.require,
        )
        self.sealed_log = SealedLog(self._database)
        self.seal = SealReader(
            self._database, lambda: own_verifier(settings), require_served=self._gate.require
        )
        self._seal = None if in_group else sealer_of(settings, self._database)
        self._seal_wake_up = WakeUp()
        self._presence: Presence | None = None
        self._worker_loops: list[Loop] = []
        if workers is WorkerLocation.HERE:
            self._presence = Presence(self._database, self._origin.instance, self._queue_advanced)
            self._worker_loops = [
                self._timeout_loop(),
                self._splitting_loop(self._presence),
                self._release_loop(),
            ]
        self.readiness = Readiness(
            self._database,
            schema=self._gate.fault_at,
            append=self._store.appender.fault,
            others=self._other_checks,
            halts=self.halts,
            process=self._state,
            timeout_seconds=settings.timeout_seconds,
        )
        self.overview = Overview(
            self._database,
            QueueTally(self._database, self._store.mapper),
            self.readiness,
            require_served=self._gate.require,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start all services. Yields after the first attempt to reach Postgres, successful or not.

        On exit the services stop in this order: each worker finishes its step, the outcomes are
        projected, the last events are sealed, queued appends are written, connections close.

        Raises:
            SessionUnfit, SchemaNotCurrent, LogUnfit, RoleUnfit: as in `SchemaGate.wait`.
        """
        self._register_gauges()
        async with BackgroundServices() as services:
            await self._database.open()
            services.on_stop(self._database.close)
            self._start_services(services)
            starting = asyncio.create_task(self._start_loops(services))
            try:
                await self._gate.attempted.wait()
                if self._gate.fault is None or starting.done():
                    await starting  # measures the clock before the first order
                yield
            finally:
                self.feed.stop()
                starting.cancel()
                with contextlib.suppress(asyncio.CancelledError, PulseError):
                    await starting

    def _register_gauges(self) -> None:
        """Register the gauges of the pool, the append queue and the notices about this process."""
        database, appender = self._database, self._store.appender
        pool = metrics.POOL_CONNECTIONS
        pool.labels("idle").set_function(lambda: database.pool_state.idle)
        pool.labels("in_use").set_function(lambda: database.pool_state.in_use)
        metrics.POOL_WAITING.set_function(lambda: database.pool_state.waiting)
        metrics.APPEND_QUEUE_EVENTS.set_function(lambda: appender.queued_events)
        for code, needs_person in PROCESS_NOTICES.items():
            gauge = metrics.PROCESS_NOTICES.labels(code, str(needs_person).lower())
            gauge.set_function(partial(self._has_notice, code))

    def _start_services(self, services: BackgroundServices) -> None:
        notified = _Notified(self._on_log_advance)
        listener = Listener(self._database, LOG_CHANNEL, notified)
        appender = self._store.appender
        services.start("log-notifier", self._log_notifier.run)
        services.start("claims-notifier", self._claims_notifier.run)
        services.start("listener", listener.run)
        services.start("appender", appender.run, request_stop=appender.drain)

    async def _start_loops(self, services: BackgroundServices) -> None:
        """Start what needs the schema, once it is current. Stopping is in the reverse order."""
        await self._gate.wait()
        with contextlib.suppress(PulseError):
            await self._clock_watch.run_once()
        services.start_loop(Loop(self._gate))
        services.start_loop(Loop(self._clock_watch, wake_up=self._clock_watch.remeasure))
        record = ClockRecord(self._database, self._origin, self._clock_watch.take_offsets)
        services.start_loop(Loop(record, require=self._gate.require))
        services.start_loop(Loop(StalledSessions(self._database)))
        services.start_loop(self._projector_loop)
        if self._workers is not WorkerLocation.IN_GROUP:
            services.start_loop(Loop(NoticeWatch(self.readiness.notices)))
        services.start_loop(self._feed_loop())
        if self._replica is not None:
            services.on_stop(self._replica.database.close)
            services.start_loop(Loop(self._replica, require=self._gate.require))
        if self._settings.metrics:
            services.on_stop(self._gauges.close)
            services.start_loop(Loop(self._gauges, require=self._gate.require))
        self._start_seal(services)
        # The presence stops after the workers: without it, other processes release their claims.
        if self._presence is not None:
            services.start("presence", self._presence.run, request_stop=self._presence.stop)
        if self._workers is not WorkerLocation.IN_GROUP:
            services.on_stop(self._project_own_events)
        services.start_loop(self._orphaned_claims_loop())
        services.start_loop(Loop(GoneWorkers(self._database), require=self._gate.require))
        for loop in self._worker_loops:
            services.start_loop(loop)
        if self._worker_loops:
            services.start_loop(Loop(Audit(self._database)))
            summary = HistorySummary(self._database, self._store.mapper)
            services.start_loop(Loop(summary, require=self._gate.require))

    def _start_seal(self, services: BackgroundServices) -> None:
        """Seal the log if this process has a key; on stop, also seal the last events."""
        if self._seal is None:
            return
        sealer, anchors = self._seal
        services.start("anchors", anchors.run)
        services.on_stop(self._seal_own_events)
        loop = Loop(
            sealer,
            wake_up=self._seal_wake_up,
            poll_seconds=self._settings.poll_interval_seconds,
            require=self._gate.require,
        )
        services.start_loop(loop)

    def _feed_loop(self) -> Loop:
        return Loop(
            self.feed,
            wake_up=self.feed.wake_up,
            poll_seconds=self._settings.poll_interval_seconds,
            require=self._gate.require,
        )

    def _orphaned_claims_loop(self) -> Loop:
        orphans = OrphanedClaims(
            self._database,
            timeout_seconds=self._settings.timeout_seconds,
            on_release=self._on_release,
        )
        return Loop(orphans, require=self._gate.require)

    def _timeout_loop(self) -> Loop:
        monitor = TimeoutMonitor(
            self._database,
            self._store,
            self._clock_watch.corrected,
            self._origin,
            timeout_seconds=self._settings.timeout_seconds,
        )
        seconds = self._settings.timeout_check_interval_seconds
        return Loop(monitor, poll_seconds=seconds, require=self._gate.require)

    def _splitting_loop(self, presence: Presence) -> Loop:
        worker = SplittingWorker(
            self._store,
            Claims(self._database, presence.worker, on_rename=presence.rename),
            self._clock_watch.corrected,
            self._origin,
            batch_size=self._settings.batch_size,
            max_split_delay_seconds=self._settings.max_split_delay_seconds,
            timeout_seconds=self._settings.timeout_seconds,
            is_present=lambda: presence.held,
            spans=self._spans,
        )
        return Loop(
            worker,
            wake_up=self._queue_advanced,
            poll_seconds=self._settings.poll_interval_seconds,
            require=self._gate.require,
        )

    def _release_loop(self) -> Loop:
        releaser = Releaser(
            self._database,
            self._store,
            self._origin,
            halts=self.halts.current,
            max_delay_seconds=self._settings.max_release_delay_seconds,
            spans=self._spans,
        )
        return Loop(releaser, wake_up=self._slices_advanced, require=self._gate.require)

    def _other_checks(self) -> dict[str, str | None]:
        """Readiness checks of the clock, and of the workers if this process has any."""
        checks = {"clock": self._clock_watch.fault}
        if self._presence is not None:
            faults = [self._presence.fault, *(loop.fault for loop in self._worker_loops)]
            checks["workers"] = "; ".join(filter(None, faults)) or None
        return checks

    def _state(self) -> ProcessState:
        sealer, anchors = self._seal or (None, None)
        return ProcessState(
            projector=self._projector.fault or self._projector_loop.fault,
            replica=None if self._replica is None else self._replica.fault,
            sealer=None if sealer is None else sealer.fault,
            anchors=() if anchors is None else anchors.faults,
            seals=sealer is not None,
        )

    def _has_notice(self, code: str) -> bool:
        return any(notice.code == code for notice in process_notices(self._state()))

    def _on_advance(self) -> None:
        """After the projection advanced: there may be orders to split and slices to release."""
        self._queue_advanced.set()
        self._slices_advanced.set()

    def _on_commit(self) -> None:
        """After an append of this process: wake its readers, then notify other processes."""
        self._on_log_advance()
        self._log_notifier.notify()

    def _on_log_advance(self) -> None:
        """After an append of any process: there are events to project and to stream."""
        self._log_advanced.set()
        self._seal_wake_up.set()
        self.feed.hint()

    def _on_release(self) -> None:
        """After claims were released: wake this process's worker, then notify other processes."""
        self._queue_advanced.set()
        self._claims_notifier.notify()

    async def _seal_own_events(self) -> None:
        """Seal what was appended before the stop, for at most MAX_CATCH_UP_SECONDS."""
        if self._seal is None:
            return
        sealer, _ = self._seal
        with contextlib.suppress(PulseError, TimeoutError):
            self._gate.require()
            async with asyncio.timeout(MAX_CATCH_UP_SECONDS):
                await sealer.run_until_done()

    async def _project_own_events(self) -> None:
        """Project the workers' last outcomes, so that a clean stop leaves no orphaned claims.

        Projects up to the log's end as it is now: under load the moving end might never be reached.
        """
        with contextlib.suppress(PulseError, TimeoutError):
            self._gate.require()
            async with asyncio.timeout(MAX_CATCH_UP_SECONDS):
                await self._projector.run_until(await self._store.end())


@asynccontextmanager
async def open_node(
    settings: Settings, spans: "Spans | None", workers: WorkerLocation
) -> AsyncIterator[Node]:
    """Run a node with these settings until the context ends.

    Raises:
        PulseError: it cannot start: the market calendar, Postgres or the schema is unfit.
    """
    calendar = _load_market_calendar(settings)
    async with open_server(settings) as server:
        node = Node(settings, server, workers=workers, calendar=calendar, spans=spans)
        async with node.running():
            with on_stop_signal(node.feed.stop):
                yield node


def _load_market_calendar(settings: Settings) -> MarketCalendar:
    calendar = load(settings.market_calendar)
    coverage = (f"{name} before {calendar.coverage(name)[1]}" for name in calendar.exchanges)
    _log.info(
        "market_calendar.loaded",
        file=str(settings.market_calendar or SHIPPED),
        digest=calendar.digest,
        covers=", ".join(coverage),
    )
    return calendar

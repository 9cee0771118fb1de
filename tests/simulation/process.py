"""One simulated process: Pulse's components, composed as in production, on a faulty network."""

import asyncio
import contextlib
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pulse.application.halts import ReleaseHalts
from pulse.application.origin import Origin
from pulse.domain import Session
from pulse.eventstore import AppendLimits, EventStore
from pulse.loop import Loop, WakeUp
from pulse.postgres import DatabaseUnavailable
from pulse.projections.claims import Claims
from pulse.projections.order_view import OrderReader
from pulse.testing import ListedSessions
from pulse.workers.recovery import OrphanedClaims
from pulse.workers.timeouts import TimeoutMonitor
from tests.simulation.loop import ProcessLoop
from tests.simulation.memory.connection import MemoryDatabase
from tests.simulation.memory.server import EPOCH
from tests.simulation.network import SimulatedNetwork
from tests.simulation.presence import SimulatedPresence
from tests.simulation.sealing import SimulatedAnchors, SimulatedSealer

if TYPE_CHECKING:
    from tests.simulation.world import World


_CALENDAR = ListedSessions(
    Session(
        opens_at=EPOCH + timedelta(hours=hour), closes_at=EPOCH + timedelta(hours=hour, seconds=40)
    )
    for hour in range(-1, 24)
)
_MAX_DRIFT = 0.05
_MAX_OFFSET_SECONDS = 0.1


class Process:
    """API, projector, orphan check; with `has_workers` also splitting, timeouts and releases.

    Its clock is off by up to 0.1 s and drifts by up to 5 %. Only the timestamps it records may
    depend on that.
    """

    def __init__(self, world: "World", name: str, *, has_workers: bool) -> None:
        self.name = name
        self.has_workers = has_workers
        self.loop = ProcessLoop(world, rate=_random_within(world, 1.0, _MAX_DRIFT))
        self.log_advanced, self.queue_advanced = WakeUp(), WakeUp()
        self.slices_advanced, self.seal_wake_up = WakeUp(), WakeUp()
        self.network = SimulatedNetwork(world, self)
        self.presence = SimulatedPresence(world, self)
        self._world = world
        self._offset = timedelta(seconds=_random_within(world, 0.0, _MAX_OFFSET_SECONDS))
        self.stopping = False
        self._database = MemoryDatabase(world.server, self.network, world.statements)
        self._origin = Origin(name)
        profile = world.profile
        self.store = EventStore(
            self._database,
            on_commit=self._on_commit,
            limits=AppendLimits(
                answer_seconds=profile.answer,
                statement_seconds=profile.statement,
            ),
        )
        reader = OrderReader(self._database, self.store.mapper)
        self.orders = world.planted.orders(
            self.store,
            reader,
            self._clock,
            self._origin,
            release_slices=world.random.random() < profile.release_share,
            session_policy="ROLL" if profile.rolls and int(name[1]) % 2 else "NONE",
            calendar=_CALENDAR,
        )
        self.halts = ReleaseHalts(self.store, self._clock, self._origin)
        self.projector = world.planted.projector(
            self._database,
            self.store.mapper,
            batch_events=profile.batch_events,
            on_advance=self._on_advance,
        )
        anchors = SimulatedAnchors(world.anchor_files[name[:2]], world.invariants.seal)
        self._sealer = SimulatedSealer(self._database, anchors, world.invariants.seal)

    def start(self) -> None:
        """Start its loops."""
        self._loops = [self._projector_loop(), self._orphans_loop()]
        if self.has_workers:
            self._loops += [self._timeouts_loop(), self._splitting_loop(), self._release_loop()]
            self._serve(self.presence.run())
        if self._world.profile.seals:
            self._loops.append(self._seal_loop())
        self._appending = self._serve(self.store.appender.run())
        self._looping = [self._serve(loop.run()) for loop in self._loops]
        self.loop.run_ready()

    def _serve(self, service: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = self.loop.create_task(service)
        task.add_done_callback(self._world.service_ended)
        return task

    async def stop(self) -> None:
        """Stop as on SIGTERM: each loop finishes its step, then queued appends are written.

        Then the appended events are sealed.
        """
        for loop in reversed(self._loops):
            loop.stop()
        await asyncio.wait(self._looping)
        self.store.appender.drain()
        await asyncio.wait([self._appending])
        if self._world.profile.seals:
            with contextlib.suppress(DatabaseUnavailable):
                await self._sealer.run_until_done()

    def _clock(self) -> datetime:
        return EPOCH + timedelta(seconds=self.loop.time()) + self._offset

    def _on_advance(self) -> None:
        self.queue_advanced.set()
        self.slices_advanced.set()

    def _on_commit(self) -> None:
        self.log_advanced.set()
        self.seal_wake_up.set()
        self._world.wake_others(self, "log_advanced")
        if self._world.profile.seals:
            self._world.wake_others(self, "seal_wake_up")

    def _on_release(self) -> None:
        self.queue_advanced.set()
        self._world.wake_others(self, "queue_advanced")

    def _projector_loop(self) -> Loop:
        poll_seconds = self._world.profile.poll
        return Loop(self.projector, wake_up=self.log_advanced, poll_seconds=poll_seconds)

    def _orphans_loop(self) -> Loop:
        orphans = OrphanedClaims(
            self._database,
            timeout_seconds=self._world.profile.timeout,
            on_release=self._on_release,
        )
        return Loop(orphans, poll_seconds=self._world.profile.poll)

    def _timeouts_loop(self) -> Loop:
        monitor = TimeoutMonitor(
            self._database,
            self.store,
            self._clock,
            self._origin,
            timeout_seconds=self._world.profile.timeout,
        )
        return Loop(monitor, poll_seconds=self._world.profile.poll)

    def _splitting_loop(self) -> Loop:
        profile = self._world.profile
        worker = self._world.planted.worker(
            self.store,
            Claims(self._database, self.name, on_rename=self.presence.rename),
            self._clock,
            self._origin,
            batch_size=profile.batch_size,
            max_split_delay_seconds=profile.max_split_delay,
            timeout_seconds=profile.timeout,
            is_present=lambda: self.presence.held,
        )
        return Loop(worker, wake_up=self.queue_advanced, poll_seconds=profile.poll)

    def _release_loop(self) -> Loop:
        releaser = self._world.planted.releaser(
            self._database,
            self.store,
            self._origin,
            halts=self.halts.current,
            max_delay_seconds=self._world.profile.max_release_delay,
        )
        return Loop(releaser, wake_up=self.slices_advanced)

    def _seal_loop(self) -> Loop:
        poll_seconds = self._world.profile.poll
        return Loop(self._sealer, wake_up=self.seal_wake_up, poll_seconds=poll_seconds)


def _random_within(world: "World", center: float, radius: float) -> float:
    return center + radius * (2 * world.random.random() - 1)

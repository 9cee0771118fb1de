"""Clocks: a process whose clock is off by too much refuses orders."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

import pytest

from pulse.application.callers import Caller
from pulse.application.clock_watch import ClockOff, ClockWatch
from pulse.application.in_process import InProcessOrders
from pulse.application.origin import Origin
from pulse.domain import Trace
from pulse.eventstore import EventStore
from pulse.postgres import Connection, Database
from pulse.projections.order_view import OrderReader
from pulse.workers.splitting import SplitResult
from pulse.workers.timeouts import TimeoutMonitor
from tests.support.cli import claim
from tests.support.commands import place_order
from tests.support.events import order_created
from tests.support.log import read_log, running_store
from tests.support.splitting import (
    append_and_project,
    claims_of,
    events_of,
    splitting_worker,
)

pytestmark = pytest.mark.timing

MAX_OFFSET_SECONDS = 1.0
T = TypeVar("T")


class Host:
    """A host whose two clocks can be shifted, each alone or both together."""

    def __init__(self) -> None:
        self.wall_seconds = 0.0
        self.both_seconds = 0.0
        self.monotonic_seconds = 0.0

    def wall(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.wall_seconds + self.both_seconds)

    def monotonic(self) -> float:
        return time.monotonic() + self.monotonic_seconds + self.both_seconds

    def watch(
        self, database: Database, *, max_offset_seconds: float = MAX_OFFSET_SECONDS
    ) -> ClockWatch:
        return ClockWatch(
            database, self.wall, max_offset_seconds=max_offset_seconds, monotonic=self.monotonic
        )


class SlowConnection:
    """A connection with delayed results."""

    def __init__(self, connection: Connection, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds

    async def execute(self, *arguments: Any) -> Any:
        found = await self._connection.execute(*arguments)
        await asyncio.sleep(self._seconds)
        return found


class SlowDatabase(Database):
    """A database with delayed results."""

    seconds = 0.0

    async def read(self, query: Callable[[Connection], Awaitable[T]]) -> T:
        async with self.connection() as connection:
            return await query(cast("Connection", SlowConnection(connection, self.seconds)))


def watch(database: Database, *, off_by: float) -> ClockWatch:
    return ClockWatch(
        database,
        lambda: datetime.now(UTC) + timedelta(seconds=off_by),
        max_offset_seconds=MAX_OFFSET_SECONDS,
    )


async def test_a_correct_clock_has_no_fault(database: Database) -> None:
    clock_watch = watch(database, off_by=0)
    offset = await clock_watch.run_once()
    assert abs(offset) < MAX_OFFSET_SECONDS
    assert clock_watch.fault is None


@pytest.mark.parametrize(("off_by", "direction"), [(300, "ahead of"), (-300, "behind")])
async def test_a_wrong_clock_is_named_with_its_offset(
    database: Database, off_by: float, direction: str
) -> None:
    clock_watch = watch(database, off_by=off_by)
    assert await clock_watch.run_once() == pytest.approx(off_by, abs=0.5)
    assert clock_watch.fault is not None
    assert direction in clock_watch.fault


async def test_an_unmeasured_clock_is_not_trusted(database: Database) -> None:
    assert watch(database, off_by=0).fault is not None


async def test_a_process_with_a_wrong_clock_takes_no_order(database: Database) -> None:
    clock_watch = watch(database, off_by=300)
    await clock_watch.run_once()
    store = EventStore(database, on_commit=lambda: None)
    orders = InProcessOrders(
        store,
        OrderReader(database, store.mapper),
        clock_watch.stamp,
        Origin("test"),
    )
    trace = Trace(trace_id="t", trace_source="s", request_id="r", request_source="s")

    with pytest.raises(ClockOff, match=r"\d+\.\d+ s ahead of the database's"):
        await orders.place(place_order().spec, Caller(), trace)

    assert await read_log(store, after=0, limit=10) == []


@pytest.mark.parametrize("seconds", [3600, -3600, 1.5, -1.5, 0.2])
async def test_the_first_stamp_after_a_step_of_the_clock_is_refused(
    database: Database, seconds: float
) -> None:
    host = Host()
    clock_watch = host.watch(database)
    await clock_watch.run_once()
    clock_watch.stamp()
    host.wall_seconds = seconds
    with pytest.raises(ClockOff, match=r"clock was set by [+-]"):
        clock_watch.stamp()
    with pytest.raises(ClockOff, match="clock was set"):
        clock_watch.corrected()
    assert clock_watch.fault is not None
    assert await clock_watch.remeasure.wait(0), "a measurement is requested"


async def test_after_a_step_the_next_measurement_decides(
    database: Database,
) -> None:
    host = Host()
    clock_watch = host.watch(database)
    await clock_watch.run_once()
    host.wall_seconds = 3600
    await clock_watch.run_once()
    with pytest.raises(ClockOff, match=r"3[56]\d\d\.\d+ s ahead of the database's"):
        clock_watch.stamp()
    host.wall_seconds = 0
    with pytest.raises(ClockOff, match="clock was set by -3"):
        clock_watch.stamp()
    await clock_watch.run_once()
    assert abs((clock_watch.stamp() - datetime.now(UTC)).total_seconds()) < MAX_OFFSET_SECONDS
    assert clock_watch.fault is None


async def test_a_suspended_host_only_needs_a_new_measurement(database: Database) -> None:
    host = Host()
    clock_watch = host.watch(database)
    await clock_watch.run_once()
    host.monotonic_seconds = -600  # it stopped while the wall clock ran
    with pytest.raises(ClockOff):
        clock_watch.stamp()
    await clock_watch.run_once()
    clock_watch.stamp()


async def test_a_pause_of_both_clocks_is_found_by_the_next_measurement(
    database: Database,
) -> None:
    host = Host()
    clock_watch = host.watch(database)
    await clock_watch.run_once()
    host.both_seconds = -3600
    await clock_watch.run_once()
    with pytest.raises(ClockOff, match="behind"):
        clock_watch.stamp()


async def test_a_rough_measurement_does_not_replace_a_good_one(conninfo: str) -> None:
    database = SlowDatabase(conninfo, pool_size=2)
    await database.open()
    try:
        clock_watch = Host().watch(database, max_offset_seconds=0.1)
        await clock_watch.run_once()
        assert clock_watch.fault is None
        database.seconds = 0.3
        assert await clock_watch.run_once() > 0.1
        assert clock_watch.fault is None
        clock_watch.stamp()
    finally:
        await database.close()


@pytest.mark.parametrize("seconds", [300, -300])
async def test_corrected_timestamps_are_of_the_databases_clock(
    database: Database, seconds: float
) -> None:
    host = Host()
    host.wall_seconds = seconds
    clock_watch = host.watch(database)
    await clock_watch.run_once()
    assert abs((clock_watch.corrected() - datetime.now(UTC)).total_seconds()) < MAX_OFFSET_SECONDS


async def test_a_worker_releases_claims_while_its_clock_is_unmeasured(
    database: Database,
) -> None:
    host = Host()
    clock_watch = host.watch(database)
    await clock_watch.run_once()
    created = order_created(timestamp=datetime.now(UTC))
    async with running_store(database) as store:
        await append_and_project(store, database, [created])
        worker = splitting_worker(store, database, clock=clock_watch.corrected)
        host.wall_seconds = 3600
        assert (await worker.run_once()).results == {SplitResult.RELEASED: 1}
        assert [claim[0] for claim in (await claims_of(database)).values()] == [None]
        await clock_watch.run_once()
        assert (await worker.run_once()).results == {SplitResult.COMPLETED: 1}
        _, outcome = await events_of(store, created.originator_id)
        assert abs((outcome.timestamp - datetime.now(UTC)).total_seconds()) < MAX_OFFSET_SECONDS


async def test_the_monitor_times_out_nothing_while_its_clock_is_unmeasured(
    database: Database, conninfo: str
) -> None:
    host = Host()
    clock_watch = host.watch(database)
    await clock_watch.run_once()
    created = order_created()
    async with running_store(database) as store:
        await append_and_project(store, database, [created])
        claim(conninfo, created.originator_id, "gone", seconds_ago=60)
        monitor = TimeoutMonitor(
            database, store, clock_watch.corrected, Origin("monitor"), timeout_seconds=5
        )
        host.wall_seconds = -3600
        with pytest.raises(ClockOff):
            await monitor.run_once()
        assert len(await events_of(store, created.originator_id)) == 1
        await clock_watch.run_once()
        assert (await monitor.run_once()).timed_out == 1
        _, outcome = await events_of(store, created.originator_id)
        assert abs((outcome.timestamp - datetime.now(UTC)).total_seconds()) < MAX_OFFSET_SECONDS

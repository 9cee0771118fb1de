"""Halts against Postgres: no release of their scope is written, however late it was decided."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import pytest
from eventsourcing.persistence import StoredEvent

from pulse.application.callers import Caller
from pulse.application.halts import HaltRequest, ReleaseHalts
from pulse.application.origin import Origin, system_clock
from pulse.domain import (
    HALTS_STREAM_ID,
    Event,
    HaltNotFound,
    Halts,
    HistoryBroken,
    OrderCreated,
    ReleasesHalted,
    ReleasesResumed,
    SlicesExpired,
    SlicesReleased,
    Trace,
    expires_at,
)
from pulse.errors import PulseError
from pulse.eventstore import (
    AppendCondition,
    ConditionFailed,
    EventStore,
    EventTooNew,
    VersionTaken,
)
from pulse.postgres import Database
from pulse.projections.audit import Audit
from pulse.projections.due_orders import read_due_orders
from pulse.projections.rebuild import Rebuild
from pulse.workers.releases import Releaser, ReleaseResult
from tests.support.events import MAPPER, order_created, orders_created, slices_scheduled, stored
from tests.support.log import (
    fetch,
    fetch_as_superuser,
    log_locked,
    read_log,
    running_store,
    unlock,
    until_waiting_for_lock,
)
from tests.support.read_model import project
from tests.support.waiting import until

TRACE: Final = Trace(trace_id="t", trace_source="DESK", request_id="r", request_source="DESK")
CALLER: Final = Caller(placed_by="risk")
ALL: Final = HaltRequest("ALL", "outage")
TCS: Final = HaltRequest("INSTRUMENT", "wrong price", instrument="NSE:TCS")
INFY: Final = HaltRequest("INSTRUMENT", "wrong price", instrument="NSE:INFY")
ANYONE: Final = HaltRequest("CALLER", "placed twice", placed_by="tester")
DESK: Final = HaltRequest("CALLER", "placed twice", placed_by="desk")
FAR: Final = datetime(2100, 1, 1, tzinfo=UTC)
HALTS_OF_EACH: Final = 25
"""How often a caller halts and resumes. Without a limit, a busy machine may release nothing."""


@pytest.fixture
async def store(database: Database) -> AsyncIterator[EventStore]:
    async with running_store(database) as store:
        yield store


@pytest.fixture
def halts(store: EventStore) -> ReleaseHalts:
    return halts_of(store)


def halts_of(store: EventStore) -> ReleaseHalts:
    """The halts of another process, which has read none yet."""
    return ReleaseHalts(store, system_clock, Origin.of_this_process())


def releaser(
    database: Database,
    store: EventStore,
    *,
    max_delay_seconds: float = 60,
    halts: Callable[[], Awaitable[Halts]] | None = None,
) -> Releaser:
    return Releaser(
        database,
        store,
        Origin.of_this_process(),
        halts=halts or halts_of(store).current,
        max_delay_seconds=max_delay_seconds,
    )


async def halt(halts: ReleaseHalts, request: HaltRequest) -> Any:
    return (await halts.halt(request, CALLER, TRACE)).halt


async def split(database: Database, store: EventStore, *created: OrderCreated) -> None:
    """Append these orders and their schedules, and project them."""
    await store.append_stored(stored(created))
    await store.append_stored(stored([slices_scheduled(order) for order in created]))
    await project(database)


def begun(seconds_ago: float, **changes: Any) -> OrderCreated:
    timestamp = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    return order_created(num_splits=2, timestamp=timestamp, **changes)


async def events_of(store: EventStore, order: OrderCreated) -> list[type[Event]]:
    records = await store.read_stream(order.originator_id)
    return [type(event) for event in MAPPER.events_of(records)][2:]


async def test_only_orders_that_no_halt_covers_are_released(
    database: Database, store: EventStore, halts: ReleaseHalts
) -> None:
    tcs = begun(5, instrument="NSE:TCS", placed_by="algo")
    desk = begun(5, instrument="NSE:INFY", placed_by="desk")
    other = begun(5, instrument="NSE:INFY", placed_by="algo")
    await split(database, store, tcs, desk, other)
    await halt(halts, TCS)
    await halt(halts, DESK)
    step = await releaser(database, store).run_once()
    assert step.results == {ReleaseResult.RELEASED: 1}
    assert await events_of(store, other) == [SlicesReleased]
    assert await events_of(store, tcs) == await events_of(store, desk) == []


async def test_after_a_halt_of_everything_nothing_is_released_until_it_is_lifted(
    database: Database, store: EventStore, halts: ReleaseHalts
) -> None:
    orders = [begun(5) for _ in range(3)]
    await split(database, store, *orders)
    set_halt = await halt(halts, ALL)
    job = releaser(database, store)
    assert (await job.run_once()).results == {}
    await halts.resume(set_halt.halt_id, None, CALLER, TRACE)
    assert (await job.run_once()).results == {ReleaseResult.RELEASED: 3}


async def test_slices_of_halted_orders_expire(
    database: Database, store: EventStore, halts: ReleaseHalts
) -> None:
    created = begun(61)
    await split(database, store, created)
    await halt(halts, ALL)
    step = await releaser(database, store).run_once()
    assert step.results == {ReleaseResult.EXPIRED: 1}
    assert await events_of(store, created) == [SlicesExpired]


async def test_many_halted_orders_do_not_delay_the_release_of_others(
    database: Database, store: EventStore, halts: ReleaseHalts
) -> None:
    halted = [begun(9, instrument="NSE:TCS") for _ in range(600)]
    other = begun(1, instrument="NSE:INFY")
    await split(database, store, *halted, other)
    await halt(halts, TCS)
    assert (await releaser(database, store).run_once()).results == {ReleaseResult.RELEASED: 1}
    assert await events_of(store, other) == [SlicesReleased]


async def test_a_releaser_that_decided_before_the_halt_writes_nothing(
    database: Database, store: EventStore, halts: ReleaseHalts
) -> None:
    """It has read the halts and the due orders, and waits for the log's lock behind the halt."""
    created = begun(5)
    await split(database, store, created)
    known = await halts.current()
    await halt(halts, ALL)

    async def as_before() -> Any:
        return known

    step = await releaser(database, store, halts=as_before).run_once()
    assert step.results == {ReleaseResult.NOT_CONFIRMED: 1}
    assert await events_of(store, created) == []


async def test_a_halt_that_commits_while_a_release_waits_for_the_lock_forbids_it(
    database: Database,
) -> None:
    """The statement of the release begins before the halt commits, so its snapshot is older."""
    async with running_store(database) as one, running_store(database) as other:
        created = begun(5)
        await split(database, one, created)
        async with log_locked(database) as holder:
            halting = asyncio.create_task(halt(halts_of(one), ALL))
            await until_waiting_for_lock(database)
            step = asyncio.create_task(releaser(database, other).run_once())
            await until_waiting_for_lock(database, count=2)
            await unlock(holder)
            await halting
            released = await step
        assert released.results == {ReleaseResult.NOT_CONFIRMED: 1}
        assert await events_of(one, created) == []


async def test_releases_race_halts_and_the_log_is_exact(database: Database) -> None:
    """Two releasers, while slices come due, against four callers that halt and resume."""
    rng = random.Random(7)
    async with running_store(database) as one, running_store(database) as other:
        created = [
            begun(rng.uniform(-2, 0), instrument=rng.choice(("NSE:TCS", "NSE:INFY")))
            for _ in range(300)
        ]
        await split(database, one, *created)
        all_ends = asyncio.Event()

        async def release(store: EventStore) -> None:
            job = releaser(database, store)
            while not all_ends.is_set():
                await job.run_once()

        async def project_on() -> None:
            while not all_ends.is_set():
                await project(database)
                await asyncio.sleep(0.002)

        async def race(store: EventStore, request: HaltRequest) -> None:
            halts = halts_of(store)
            for _ in range(HALTS_OF_EACH):
                await asyncio.sleep(rng.random() * 0.1)
                set_halt = await halt(halts, request)
                await asyncio.sleep(rng.random() * 0.03)
                await halts.resume(set_halt.halt_id, None, CALLER, TRACE)

        jobs = [asyncio.create_task(job) for job in (release(one), release(other), project_on())]
        races = [(one, ALL), (one, TCS), (other, INFY), (other, ANYONE)]
        await asyncio.gather(*(race(store, request) for store, request in races))
        await until(lambda: _none_due(database), "all due slices are released")
        all_ends.set()
        await asyncio.gather(*jobs)
        log = [MAPPER.event_of(record) for record in await read_log(one, after=0, limit=10_000)]
    check_no_release_while_halted(log)
    assert sum(isinstance(event, SlicesReleased) for event in log) == len(created)
    assert sum(isinstance(event, ReleasesHalted) for event in log) == HALTS_OF_EACH * len(races)


def check_no_release_while_halted(log: Iterable[Event]) -> None:
    """Between a halt and its end the log has no release of its scope. Every halt has an end."""
    orders: dict[UUID, OrderCreated] = {}
    in_force: dict[UUID, ReleasesHalted] = {}
    for event in log:
        if isinstance(event, OrderCreated):
            orders[event.originator_id] = event
        elif isinstance(event, ReleasesHalted):
            in_force[event.halt_id] = event
        elif isinstance(event, ReleasesResumed):
            del in_force[event.halt_id]
        elif isinstance(event, SlicesReleased):
            order = orders[event.originator_id]
            for halt in in_force.values():
                assert halt.scope == "INSTRUMENT", event
                assert halt.instrument != order.instrument, event
    assert in_force == {}


async def _none_due(database: Database) -> bool:
    soon = "SELECT count(*) FROM due_orders WHERE due_at <= clock_timestamp() + interval '5 s'"
    rows = await fetch(database, soon)
    return bool(rows[0][0] == 0)


async def test_an_append_with_a_condition_that_holds_is_written(
    store: EventStore, halts: ReleaseHalts
) -> None:
    await halt(halts, TCS)
    event, free = stored(orders_created(2))
    results = await store.appender.append_each([event, free], [AppendCondition(1, FAR), None])
    assert all(isinstance(result, tuple) for result in results)


@pytest.mark.parametrize(
    "condition",
    [
        AppendCondition(0, FAR),
        AppendCondition(2, FAR),
        AppendCondition(1, datetime(2020, 1, 1, tzinfo=UTC)),
    ],
    ids=["an older version", "a newer version", "a time that has passed"],
)
async def test_a_failed_condition_refuses_its_append_alone(
    store: EventStore, halts: ReleaseHalts, condition: AppendCondition
) -> None:
    await halt(halts, TCS)
    event, free = stored(orders_created(2))
    refused, written = await store.appender.append_each([event, free], [condition, None])
    assert isinstance(refused, ConditionFailed)
    assert isinstance(written, tuple)
    assert await store.read_stream(event.originator_id) == []  # type: ignore[arg-type]


async def test_a_taken_version_is_named_before_a_failed_condition(store: EventStore) -> None:
    (event,) = stored(orders_created(1))
    await store.append_stored([event])
    (result,) = await store.appender.append_each([event], [AppendCondition(9, FAR)])
    assert isinstance(result, VersionTaken)


async def test_a_release_whose_slice_expires_while_it_waits_is_not_written(
    database: Database, store: EventStore
) -> None:
    """The process or Postgres was frozen: the decision was right, its append is too late."""
    created = begun(0, duration_minutes=60)
    await split(database, store, created)
    async with log_locked(database) as holder:
        job = releaser(database, store, max_delay_seconds=1.5)
        step = asyncio.create_task(job.run_once())
        await until_waiting_for_lock(database)
        await until(lambda: _is_expired(created, 1.5), "the slice has expired")
        await unlock(holder)
        result = await step
    assert result.results == {ReleaseResult.NOT_CONFIRMED: 1}
    assert await events_of(store, created) == []


async def _is_expired(created: OrderCreated, max_delay_seconds: float) -> bool:
    return datetime.now(UTC) > created.timestamp + timedelta(seconds=max_delay_seconds)


async def test_the_halts_of_another_process_are_seen_at_once(store: EventStore) -> None:
    one, other = halts_of(store), halts_of(store)
    assert (await other.current()).in_force == ()
    first = await halt(one, TCS)
    assert [h.halt_id for h in (await other.current()).in_force] == [first.halt_id]
    again = await other.halt(
        HaltRequest("INSTRUMENT", "later", instrument="NSE:TCS"), CALLER, TRACE
    )
    assert (again.created, again.halt) == (False, first)
    assert again.position == 1
    lifted = await other.resume(first.halt_id, "corrected", CALLER, TRACE)
    assert (lifted.halt.lifted_by, lifted.halt.lifted_reason) == ("risk", "corrected")
    assert lifted.position == 2
    assert await one.resume(first.halt_id, "again", CALLER, TRACE) == lifted
    assert await one.all() == [lifted.halt]
    with pytest.raises(HaltNotFound):
        await one.resume(HALTS_STREAM_ID, None, CALLER, TRACE)


async def test_thirty_two_callers_at_once_set_one_halt_and_lift_it_once(store: EventStore) -> None:
    each = [halts_of(store) for _ in range(32)]
    answers = await asyncio.gather(*(one.halt(ALL, CALLER, TRACE) for one in each))
    assert sum(answer.created for answer in answers) == 1
    (halt_id,) = {answer.halt.halt_id for answer in answers}
    lifted = await asyncio.gather(*(one.resume(halt_id, None, CALLER, TRACE) for one in each))
    assert len({answer.halt.lifted_at for answer in lifted}) == 1
    records = await store.read_stream(HALTS_STREAM_ID)
    assert [type(MAPPER.event_of(r)) for r in records] == [ReleasesHalted, ReleasesResumed]


async def test_projection_rebuild_and_audit_pass_over_halts(
    database: Database, store: EventStore, halts: ReleaseHalts
) -> None:
    created = begun(5)
    await store.append_stored(stored([created]))
    set_halt = await halt(halts, ALL)
    await store.append_stored(stored([slices_scheduled(created)]))
    await halts.resume(set_halt.halt_id, None, CALLER, TRACE)
    await project(database)
    rebuilt = await Rebuild(database, MAPPER, lambda *_: None).run()
    assert (rebuilt.position, rebuilt.replaced, rebuilt.parked_orders) == (4, 0, 0)
    windows = [window async for window in Audit(database).newest_windows(max_seconds=20)]
    assert [window.findings for window in windows] == [()]


@pytest.mark.parametrize(
    ("topic", "error"),
    [("pulse.domain:ReleasesPaused", EventTooNew), (ReleasesHalted.TOPIC, HistoryBroken)],
    ids=["of newer code", "set twice"],
)
async def test_with_halts_that_cannot_be_read_nothing_is_released(
    database: Database,
    store: EventStore,
    halts: ReleaseHalts,
    topic: str,
    error: type[PulseError],
) -> None:
    created = begun(5)
    await split(database, store, created)
    await halt(halts, TCS)
    state = (await store.read_stream(HALTS_STREAM_ID))[0].state
    await store.append_stored([StoredEvent(HALTS_STREAM_ID, 2, topic, state)])
    with pytest.raises(error):
        await releaser(database, store).run_once()
    assert await events_of(store, created) == []


async def test_a_halted_order_is_read_when_its_next_slice_expires(
    database: Database, store: EventStore, halts: ReleaseHalts
) -> None:
    """Postgres computes the time as the domain does, whatever has been settled before."""
    rng = random.Random(11)
    orders = [
        order_created(
            num_splits=rng.randint(2, 100),
            total_quantity=1000,
            duration_minutes=1,
            timestamp=datetime.now(UTC) - timedelta(seconds=rng.uniform(-2, 20)),
        )
        for _ in range(300)
    ]
    await split(database, store, *orders)
    await halt(halts, ALL)
    known = await halts.current()
    for max_delay_seconds in (1, 4, 60):
        due = await read_due_orders(
            database, 1000, halts=known, max_delay_seconds=max_delay_seconds
        )
        expired = {
            order.originator_id
            for order in orders
            for first, second in [slices_scheduled(order).slices[:2]]
            if expires_at(first, second, max_delay_seconds) <= due.at
        }
        assert {order.order_id for order in due.orders} == expired
        assert 0 < len(expired) < len(orders)


async def test_halts_are_read_again_after_the_log_lost_its_last_events(
    database: Database, store: EventStore
) -> None:
    """A process that is running during a failover with losses, or a restore, has other halts."""
    process = halts_of(store)
    await halt(process, TCS)
    lost = await halt(process, INFY)
    await fetch_as_superuser(database, "ALTER TABLE stored_events DISABLE TRIGGER ALL")
    await fetch_as_superuser(
        database,
        "DELETE FROM stored_events WHERE originator_id = %s AND originator_version = 2",
        HALTS_STREAM_ID,
    )
    assert [h.halt_id for h in (await process.current()).in_force] != [lost.halt_id]
    assert [h.target.instrument for h in (await process.current()).in_force] == ["NSE:TCS"]
    await halt(halts_of(store), ALL)  # by another process, at the version of the lost event
    assert [h.target.scope for h in (await process.current()).in_force] == ["INSTRUMENT", "ALL"]

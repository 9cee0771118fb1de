"""The slices to release: by time with their orders, counted by minute, overdue, and late."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from pulse.application.due import DueSlices, halt_of
from pulse.domain import (
    Event,
    HaltReleases,
    Halts,
    HaltTarget,
    OrderCreated,
    Slice,
    SlicesScheduled,
    decide_halt,
    evolve_halts,
)
from pulse.eventstore import EventStore
from pulse.postgres import Database
from pulse.projections.due_slices import MinuteCount
from pulse.projections.lists import SliceQuery
from tests.support.events import (
    AUTHOR,
    TRACE,
    order_cancelled,
    order_created,
    slices_expired,
    slices_released,
    slices_scheduled,
    stored,
)
from tests.support.log import fetch_as_superuser, running_appender
from tests.support.read_model import project

NOON = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=2)


@pytest.fixture
def due(database: Database) -> DueSlices:
    return DueSlices(database, EventStore(database, on_commit=lambda: None))


def split_at(created: OrderCreated, *times: datetime) -> SlicesScheduled:
    """Its slices at these times, each of ten shares."""
    slices = tuple(
        Slice(sequence_number=n, quantity=10, scheduled_at=time)
        for n, time in enumerate(times, start=1)
    )
    return msgspec.structs.replace(slices_scheduled(created), slices=slices)


def halted(*targets: HaltTarget) -> Halts:
    halts = Halts()
    for target in targets:
        command = HaltReleases(
            target=target,
            reason="test",
            halted_by="tester",
            at=NOON,
            recorded_by=AUTHOR,
            trace=TRACE,
        )
        for event in decide_halt(command, halts):
            halts = evolve_halts(halts, event)
    return halts


async def record(database: Database, *events: Any) -> None:
    async with running_appender(database) as appender:
        await appender.append(stored(events))
    await project(database)


def an_order(**changes: Any) -> OrderCreated:
    return order_created(total_quantity=30, num_splits=3, **changes)


async def test_a_slice_is_listed_with_the_facts_that_decide_its_release(
    database: Database, due: DueSlices
) -> None:
    first = an_order(order_unique_key="first", placed_by="desk")
    second = an_order(order_unique_key="second", release=False)
    times = [NOON, NOON + timedelta(minutes=1), NOON + timedelta(minutes=2)]
    await record(database, first, split_at(first, *times))
    await record(database, second, split_at(second, *times))
    page = await due.page(SliceQuery(limit=5, scheduled_from=NOON))
    assert [
        (s.order_unique_key, s.sequence_number, s.placed_by, s.release) for s in page.slices
    ] == [
        ("first", 1, "desk", True),
        ("second", 1, "tester", False),
        ("first", 2, "desk", True),
        ("second", 2, "tester", False),
        ("first", 3, "desk", True),
    ]
    rest = await due.page(SliceQuery(limit=5, after=page.next_after))
    assert [(s.order_unique_key, s.sequence_number) for s in rest.slices] == [("second", 3)]
    assert rest.next_after is None


async def test_only_slices_that_pulse_is_to_release_are_counted_by_minute(
    database: Database, due: DueSlices
) -> None:
    minute = timedelta(minutes=1)
    kept = an_order(placed_by="desk")
    cancelled = an_order(instrument="NSE:TCS")
    unreleased = an_order(release=False)
    times = NOON, NOON + minute, NOON + 90 * minute
    for order in (kept, cancelled, unreleased):
        await record(database, order, split_at(order, *times))
    await record(database, order_cancelled(cancelled, split_at(cancelled, *times)))
    counts = await due.by_minute(NOON, NOON + 60 * minute, [])
    assert counts.complete
    assert counts.minutes == (
        MinuteCount(NOON, 1, 10, 0),
        MinuteCount(NOON + minute, 1, 10, 0),
    )
    for target in (
        HaltTarget(scope="ALL"),
        HaltTarget(scope="INSTRUMENT", instrument="NSE:RELIANCE"),
        HaltTarget(scope="CALLER", placed_by="desk"),
    ):
        counts = await due.by_minute(NOON, NOON + 60 * minute, [target])
        assert [m.halted for m in counts.minutes] == [1, 1], target
    other = HaltTarget(scope="INSTRUMENT", instrument="NSE:TCS")
    counts = await due.by_minute(NOON, NOON + 60 * minute, [other])
    assert [m.halted for m in counts.minutes] == [0, 0]


async def test_a_slice_is_overdue_until_it_is_settled(database: Database, due: DueSlices) -> None:
    now = datetime.now(UTC)
    created = an_order(timestamp=now - timedelta(hours=1))
    scheduled = split_at(
        created, now - timedelta(minutes=9), now - timedelta(minutes=3), now + timedelta(hours=1)
    )
    await record(database, created, scheduled)
    found = await due.overdue(10)
    assert [(s.order_id, s.sequence_number) for s in found] == [
        (created.originator_id, 1),
        (created.originator_id, 2),
    ]
    assert len(await due.overdue(1)) == 1
    await record(database, slices_expired(created, scheduled))
    assert [s.sequence_number for s in await due.overdue(10)] == [2]
    (slice_,) = await due.overdue(10)
    in_force = halted(
        HaltTarget(scope="INSTRUMENT", instrument="NSE:TCS"), HaltTarget(scope="ALL")
    ).in_force
    assert halt_of(slice_, in_force) == in_force[1]
    assert halt_of(slice_, in_force[:1]) is None
    assert halt_of(msgspec.structs.replace(slice_, release=False), in_force) is None
    assert halt_of(msgspec.structs.replace(slice_, state="EXPIRED"), in_force) is None


def late_life(now: datetime) -> list[Event]:
    """An order whose first slice was punctual, whose second expired, and whose third was late."""
    minute = timedelta(minutes=1)
    created = an_order(timestamp=now - 60 * minute)
    scheduled = split_at(created, now - 9 * minute, now - 6 * minute, now - 3 * minute)
    punctual = slices_released(created, scheduled, at=now - 9 * minute)
    expired = slices_expired(created, scheduled, punctual, at=now - 5 * minute)
    late = slices_released(created, scheduled, punctual, expired, at=now - 2 * minute)
    return [created, scheduled, punctual, expired, late]


async def test_slices_that_were_late_or_expired_are_found_newest_first(
    database: Database, due: DueSlices
) -> None:
    now, minute = datetime.now(UTC), timedelta(minutes=1)
    await record(database, *late_life(now))
    page = await due.late(now - 60 * minute, 10)
    assert page.examined_since is None
    assert not page.more
    second, first = page.found
    assert (first.sequence_numbers, first.quantity, first.expired) == ((2,), 10, True)
    assert (second.sequence_numbers, second.late_seconds, second.expired) == ((3,), 60.0, False)
    assert second.instrument == "NSE:RELIANCE"
    assert (await due.late(now - 60 * minute, 1)).more
    assert (await due.late(now + minute, 10)).found == ()


@pytest.mark.parametrize(("examined", "reaches_the_start"), [(3, False), (4, True)])
async def test_the_time_since_which_events_are_examined_is_shown_if_it_is_after_the_start(
    database: Database,
    due: DueSlices,
    monkeypatch: pytest.MonkeyPatch,
    examined: int,
    reaches_the_start: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    created, scheduled, *settled = late_life(datetime.now(UTC))
    await record(database, created, scheduled)
    ((start,),) = await fetch_as_superuser(database, "SELECT clock_timestamp()")
    await record(database, *settled)
    monkeypatch.setattr("pulse.application.due.MAX_EXAMINED_EVENTS", examined)
    page = await due.late(start, 10)
    assert len(page.found) == 2
    assert (page.examined_since is None) is reaches_the_start

"""The releaser: due slices are released once, late ones expire, and conflicts are retried."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from eventsourcing.persistence import StoredEvent
from structlog.testing import capture_logs

from pulse.application.callers import Caller
from pulse.application.halts import ReleaseHalts
from pulse.application.in_process import InProcessOrders
from pulse.application.origin import Origin, system_clock
from pulse.domain import (
    Event,
    OrderCancelled,
    OrderCreated,
    SlicesExpired,
    SlicesReleased,
    SlicesScheduled,
    fold,
)
from pulse.eventstore import AppendLimits, EventStore
from pulse.loop import NOW
from pulse.postgres import Database
from pulse.projections.order_view import OrderReader
from pulse.workers.releases import MAX_ORDERS_PER_STEP, Releaser, ReleaseResult, ReleaseStep
from tests.support.events import (
    MAPPER,
    TRACE,
    order_created,
    orders_created,
    settled,
    slices_scheduled,
    state_of_version_1,
    stored,
)
from tests.support.log import fetch_as_superuser, log_locked, read_log, running_store, unlock
from tests.support.read_model import folded, project, queue
from tests.support.waiting import until


def releaser(database: Database, store: EventStore, *, max_delay_seconds: float = 60) -> Releaser:
    origin = Origin.of_this_process()
    halts = ReleaseHalts(store, system_clock, origin)
    return Releaser(
        database, store, origin, halts=halts.current, max_delay_seconds=max_delay_seconds
    )


async def split(database: Database, store: EventStore, *created: OrderCreated) -> None:
    """Append these orders and their schedules, and project them."""
    await store.append_stored(stored(created))
    await store.append_stored(stored([slices_scheduled(order) for order in created]))
    await project(database)


def begun(seconds_ago: float, **changes: Any) -> OrderCreated:
    """An order of two slices over an hour, the first of which was due `seconds_ago`."""
    timestamp = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    return order_created(num_splits=2, timestamp=timestamp, **changes)


async def events_of(store: EventStore, order: OrderCreated) -> list[Event]:
    return list(MAPPER.events_of(await store.read_stream(order.originator_id)))


async def log_of(store: EventStore) -> list[tuple[int, Event]]:
    records = await read_log(store, after=0, limit=1000)
    return [(record.position, MAPPER.event_of(record)) for record in records]


async def test_a_slice_that_is_due_is_released_with_all_that_an_executor_needs(
    database: Database, store: EventStore
) -> None:
    created = begun(5, instrument="BSE:500325", side="SELL", order_unique_key="ouk_1")
    await split(database, store, created)
    step = await releaser(database, store).run_once()
    assert step.results == {ReleaseResult.RELEASED: 1}
    _, scheduled, released = await events_of(store, created)
    assert isinstance(released, SlicesReleased)
    assert isinstance(scheduled, SlicesScheduled)
    assert released.slices == scheduled.slices[:1]
    assert (released.order_unique_key, released.instrument, released.side) == (
        "ouk_1",
        "BSE:500325",
        "SELL",
    )
    assert released.trace.trace_id == created.trace.trace_id
    assert released.recorded_by.component == "releaser"
    (record,) = (await store.read_stream(created.originator_id))[2:]
    assert released.slices[0].scheduled_at <= released.timestamp <= record.recorded_at


async def test_nothing_is_released_before_its_time_and_the_next_time_is_known(
    database: Database, store: EventStore
) -> None:
    later = order_created(timestamp=datetime.now(UTC) + timedelta(seconds=30))
    await split(database, store, later)
    job = releaser(database, store)
    step = await job.run_once()
    assert step.results == {}
    assert step.next_seconds is not None
    assert 0 < step.next_seconds <= 30
    assert job.pause_after(step) is None
    assert job.poll_after(step) == 1.0
    assert job.poll_after(ReleaseStep(Counter(), 0.2)) == 0.2
    assert job.poll_after(ReleaseStep(Counter(), None)) == 1.0


async def test_a_slice_that_is_too_late_expires_and_the_next_one_is_released(
    database: Database, store: EventStore
) -> None:
    created = begun(3700)  # the second slice was due 100 s ago
    await split(database, store, created)
    job = releaser(database, store, max_delay_seconds=3600)
    assert (await job.run_once()).results == {ReleaseResult.EXPIRED: 1}
    await project(database)
    assert (await job.run_once()).results == {ReleaseResult.RELEASED: 1}
    *_, expired, released = await events_of(store, created)
    assert isinstance(expired, SlicesExpired)
    assert (expired.sequence_numbers, expired.reason) == ((1,), "RELEASE_TOO_LATE")
    assert isinstance(released, SlicesReleased)
    await project(database)
    assert (await job.run_once()).results == {}
    assert await queue(database) == folded(await log_of(store))


async def test_events_that_are_not_projected_yet_are_not_decided_again(
    database: Database, store: EventStore
) -> None:
    created = begun(5)
    await split(database, store, created)
    job = releaser(database, store)
    await job.run_once()
    for _ in range(2):
        assert (await job.run_once()).results == {}
    await project(database)
    assert (await job.run_once()).results == {}
    assert len(await events_of(store, created)) == 3


async def test_of_two_concurrent_releasers_one_releases_and_the_other_conflicts(
    database: Database, store: EventStore
) -> None:
    created = [begun(5) for _ in range(20)]
    await split(database, store, *created)
    async with running_store(database) as other:
        steps = await asyncio.gather(
            releaser(database, store).run_once(), releaser(database, other).run_once()
        )
    results = sum((step.results for step in steps), Counter())
    assert results[ReleaseResult.RELEASED] == 20
    assert results.keys() <= {ReleaseResult.RELEASED, ReleaseResult.OVERTAKEN}
    for order in created:
        assert len(await events_of(store, order)) == 3


async def test_a_cancel_that_came_first_wins_and_nothing_is_released(
    database: Database, store: EventStore
) -> None:
    created = begun(5)
    await split(database, store, created)
    reader = OrderReader(database, MAPPER)
    orders = InProcessOrders(store, reader, system_clock, Origin.of_this_process())
    view = await orders.cancel(created.originator_id, "a mistake", Caller("desk"), TRACE)
    assert [s.state for s in view.slices] == ["CANCELLED", "CANCELLED"]
    job = releaser(database, store)
    assert (await job.run_once()).results == {ReleaseResult.OVERTAKEN: 1}
    await project(database)
    assert (await job.run_once()).results == {}
    *_, cancelled = await events_of(store, created)
    assert isinstance(cancelled, OrderCancelled)
    assert (cancelled.reason, cancelled.cancelled_by) == ("a mistake", "desk")
    assert cancelled.trace == TRACE


async def test_a_cancel_that_conflicts_with_a_release_decides_again(
    database: Database, store: EventStore
) -> None:
    """The release is appended after the cancel has read the order, and before its append."""
    created = begun(5)
    await split(database, store, created)
    (release,) = settled([created, slices_scheduled(created)], datetime.now(UTC))

    class Meanwhile(OrderReader):
        async def folded(self, order_id: object) -> object:  # type: ignore[override]
            order = await super().folded(order_id)  # type: ignore[arg-type]
            if order is not None and order.version == 2:
                await store.append(release)
            return order

    orders = InProcessOrders(
        store, Meanwhile(database, MAPPER), system_clock, Origin.of_this_process()
    )
    view = await orders.cancel(created.originator_id, None, Caller(), TRACE)
    assert [s.state for s in view.slices] == ["RELEASED", "CANCELLED"]
    order = fold(await events_of(store, created))
    assert order is not None
    assert order.quantities == view.quantities


async def test_an_append_that_is_refused_is_tried_again(
    database: Database,
) -> None:
    async with running_store(database, limits=AppendLimits(answer_seconds=0.3)) as store:
        created = begun(5)
        await split(database, store, created)
        job = releaser(database, store)
        async with log_locked(database) as holder:
            step = await job.run_once()
            assert step.results == {ReleaseResult.NOT_CONFIRMED: 1}
            pause = job.pause_after(step)
            assert pause is not None
            assert pause > 0
            await unlock(holder)

        async def released() -> bool:
            step = await job.run_once()
            return not step.results.keys() & {ReleaseResult.NOT_CONFIRMED}

        await until(released, "the slice is released")
        assert len(await events_of(store, created)) == 3


async def test_a_row_that_cannot_become_an_event_affects_no_other_order(
    database: Database, store: EventStore
) -> None:
    bad, good = begun(5), begun(5)
    await split(database, store, bad, good)
    await fetch_as_superuser(
        database,
        "UPDATE scheduled_slices SET scheduled_at = '9999-12-31T23:59:59Z'"
        " WHERE sequence_number = 1 AND created_position ="
        " (SELECT created_position FROM order_queue WHERE order_id = %s)",
        bad.originator_id,
    )
    job = releaser(database, store)
    with capture_logs() as logged:
        step = await job.run_once()
    assert step.results == {ReleaseResult.CRASHED: 1, ReleaseResult.RELEASED: 1}
    assert logged[0]["event"] == "slices.release_crashed"
    assert (await job.run_once()).results == {ReleaseResult.CRASHED: 1}


async def test_a_backlog_is_released_without_a_pause(database: Database, store: EventStore) -> None:
    count = MAX_ORDERS_PER_STEP + 7
    created = orders_created(count, num_splits=2)
    await split(database, store, *created)
    job = releaser(database, store)
    step = await job.run_once()
    assert step.results == {ReleaseResult.RELEASED: MAX_ORDERS_PER_STEP}
    assert (step.more, job.pause_after(step)) == (True, NOW)
    step = await job.run_once()  # the projection has not read the first step's events
    assert step.results == {ReleaseResult.RELEASED: 7}
    assert (step.more, job.pause_after(step)) == (False, None)


async def test_orders_of_class_version_1_are_never_released(
    database: Database, store: EventStore
) -> None:
    created = begun(5)
    first = StoredEvent(created.originator_id, 1, created.TOPIC, state_of_version_1(created))
    assert not MAPPER.to_domain_event(first).release  # type: ignore[attr-defined]
    await store.append_stored([first, *stored([slices_scheduled(created)])])
    await project(database)
    assert (await releaser(database, store).run_once()).results == {}
    (row,) = (await queue(database)).values()
    assert (row["release"], row["remaining_quantity"], row["due_at"]) == (False, 100, None)

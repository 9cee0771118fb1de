"""Cancelling orders: at most one event for each order, also under races."""

import asyncio
from datetime import datetime
from uuid import uuid4

import psycopg
import pytest
from eventsourcing.persistence import StoredEvent

from pulse.application.callers import Caller
from pulse.application.clock_watch import ClockOff
from pulse.application.in_process import InProcessOrders
from pulse.application.orders import OrderNotFound
from pulse.application.origin import Origin, system_clock
from pulse.domain import (
    Event,
    NothingToCancel,
    OrderCancelled,
    OrderCreated,
    Quantities,
    SlicesReleased,
    SlicesScheduled,
)
from pulse.eventstore import (
    AppendLimits,
    AppendOutcomeUnknown,
    AppendRefused,
    EventStore,
    EventTooNew,
)
from pulse.postgres import Database, DatabaseUnavailable
from pulse.projections.order_view import FoldedStream, OrderReader
from tests.support.events import (
    AUTHOR,
    MAPPER,
    TRACE,
    foreign_event,
    order_created,
    slices_scheduled,
    splitting_failed,
    stored,
)
from tests.support.log import (
    log_locked,
    orders_on,
    running_store,
    unlock,
    until_waiting_for_lock,
    write,
)

CALLER = Caller("oms")


@pytest.fixture
async def orders(database: Database, store: EventStore) -> InProcessOrders:
    return orders_on(database, store)


async def events_of(store: EventStore, created: OrderCreated) -> list[Event]:
    return [MAPPER.event_of(record) for record in await store.read_stream(created.originator_id)]


def released(scheduled: SlicesScheduled, created: OrderCreated, count: int) -> SlicesReleased:
    """The release of the first `count` slices, at the time of the last of them."""
    return SlicesReleased(
        originator_id=created.originator_id,
        originator_version=3,
        timestamp=scheduled.slices[count - 1].scheduled_at,
        recorded_by=AUTHOR,
        trace=TRACE,
        order_unique_key=created.order_unique_key,
        instrument=created.instrument,
        side=created.side,
        slices=scheduled.slices[:count],
    )


async def test_an_order_that_is_not_split_is_cancelled_whole(
    conninfo: str, store: EventStore, orders: InProcessOrders
) -> None:
    created = order_created()
    write(conninfo, *stored([created]))
    view = await orders.cancel(created.originator_id, "no longer wanted", CALLER, TRACE)
    assert (view.order_queue_status, view.version, view.position) == ("CANCELLED", 2, 2)
    assert view.quantities == Quantities(remaining=0, cancelled=100)
    assert view == await orders.order(created.originator_id, CALLER)
    _, cancelled = await events_of(store, created)
    assert isinstance(cancelled, OrderCancelled)
    assert (cancelled.sequence_numbers, cancelled.quantity) == ((), 100)
    assert (cancelled.reason, cancelled.cancelled_by) == ("no longer wanted", "oms")
    assert cancelled.trace == TRACE
    assert cancelled.recorded_by.component == "api"


async def test_released_slices_stay_released(
    conninfo: str, store: EventStore, orders: InProcessOrders
) -> None:
    created = order_created()
    scheduled = slices_scheduled(created)
    write(conninfo, *stored([created, scheduled, released(scheduled, created, 2)]))
    out = sum(s.quantity for s in scheduled.slices[:2])
    view = await orders.cancel(created.originator_id, None, CALLER, TRACE)
    assert (view.order_queue_status, view.version) == ("COMPLETED", 4)
    assert view.quantities == Quantities(remaining=0, released=out, cancelled=100 - out)
    assert [s.state for s in view.slices] == ["RELEASED"] * 2 + ["CANCELLED"] * 3
    assert view == await orders.order(created.originator_id, CALLER)
    *_, cancelled = await events_of(store, created)
    assert isinstance(cancelled, OrderCancelled)
    assert cancelled.sequence_numbers == (3, 4, 5)


async def test_a_cancelled_order_is_returned_unchanged(
    conninfo: str, store: EventStore, orders: InProcessOrders
) -> None:
    created = order_created()
    write(conninfo, *stored([created, slices_scheduled(created)]))
    first = await orders.cancel(created.originator_id, "first", CALLER, TRACE)
    assert await orders.cancel(created.originator_id, "second", Caller("other"), TRACE) == first
    *_, cancelled = await events_of(store, created)
    assert (first.version, cancelled.originator_version) == (3, 3)


async def test_32_concurrent_cancellations_from_two_processes_are_one_event(
    conninfo: str, database: Database, store: EventStore, orders: InProcessOrders
) -> None:
    created = order_created()
    write(conninfo, *stored([created, slices_scheduled(created)]))
    async with running_store(database) as elsewhere:
        both = (orders, orders_on(database, elsewhere))
        views = await asyncio.gather(
            *(
                both[n % 2].cancel(created.originator_id, f"reason {n}", CALLER, TRACE)
                for n in range(32)
            )
        )
    assert all(view == views[0] for view in views)
    assert len(await events_of(store, created)) == 3


class ReaderWithReleases(OrderReader):
    """Before each of the first reads returns, another process releases a slice."""

    def __init__(self, database: Database, store: EventStore, events: list[Event]) -> None:
        super().__init__(database, MAPPER)
        self._store = store
        self._events = events

    async def folded(self, order_id: object) -> FoldedStream | None:
        found = await super().folded(order_id)  # type: ignore[arg-type]
        if self._events:
            await self._store.append(self._events.pop(0))
        return found


async def test_a_cancellation_that_a_release_overtakes_cancels_what_is_left(
    conninfo: str, database: Database, store: EventStore
) -> None:
    created = order_created()
    scheduled = slices_scheduled(created)
    write(conninfo, *stored([created]))
    overtaking: list[Event] = [scheduled, released(scheduled, created, 4)]
    reader = ReaderWithReleases(database, store, overtaking)
    orders = InProcessOrders(store, reader, system_clock, Origin("host:1:abc"))
    view = await orders.cancel(created.originator_id, None, CALLER, TRACE)
    assert [s.state for s in view.slices] == ["RELEASED"] * 4 + ["CANCELLED"]
    assert view.version == 4


async def test_a_cancellation_that_the_last_release_overtakes_is_refused(
    conninfo: str, database: Database, store: EventStore
) -> None:
    created = order_created()
    scheduled = slices_scheduled(created)
    write(conninfo, *stored([created, scheduled]))
    reader = ReaderWithReleases(database, store, [released(scheduled, created, 5)])
    orders = InProcessOrders(store, reader, system_clock, Origin("host:1:abc"))
    with pytest.raises(NothingToCancel) as refused:
        await orders.cancel(created.originator_id, None, CALLER, TRACE)
    assert refused.value.quantities == Quantities(remaining=0, released=100)


async def test_a_failed_order_has_nothing_to_cancel(conninfo: str, orders: InProcessOrders) -> None:
    created = order_created()
    write(conninfo, *stored([created, splitting_failed(created)]))
    with pytest.raises(NothingToCancel, match="it failed") as refused:
        await orders.cancel(created.originator_id, None, CALLER, TRACE)
    assert refused.value.quantities == Quantities(remaining=0, expired=100)


async def test_an_unknown_order_is_not_found(orders: InProcessOrders) -> None:
    with pytest.raises(OrderNotFound):
        await orders.cancel(uuid4(), None, CALLER, TRACE)


async def test_a_parked_order_has_nothing_to_cancel_even_if_its_events_can_be_read(
    conninfo: str, store: EventStore, orders: InProcessOrders
) -> None:
    created = order_created()
    write(conninfo, *stored([created, slices_scheduled(created)]))
    park(conninfo, created)
    with pytest.raises(NothingToCancel, match="it is parked") as refused:
        await orders.cancel(created.originator_id, None, CALLER, TRACE)
    assert refused.value.quantities == Quantities(remaining=100)
    assert len(await events_of(store, created)) == 2


async def test_an_order_that_is_parked_after_its_cancellation_is_still_cancelled(
    conninfo: str, orders: InProcessOrders
) -> None:
    created = order_created()
    write(conninfo, *stored([created]))
    first = await orders.cancel(created.originator_id, None, CALLER, TRACE)
    park(conninfo, created)
    assert await orders.cancel(created.originator_id, None, CALLER, TRACE) == first


@pytest.mark.parametrize("state", [b"broken", b"{}"])
async def test_an_order_that_cannot_be_read_has_nothing_to_cancel(
    conninfo: str, orders: InProcessOrders, state: bytes
) -> None:
    created = order_created()
    broken = StoredEvent(created.originator_id, 2, SlicesScheduled.TOPIC, state)
    write(conninfo, *stored([created]), broken)
    with pytest.raises(NothingToCancel, match="cannot be read") as refused:
        await orders.cancel(created.originator_id, None, CALLER, TRACE)
    assert refused.value.quantities is None


async def test_a_history_with_a_gap_has_nothing_to_cancel(
    conninfo: str, orders: InProcessOrders
) -> None:
    created = order_created()
    (failed,) = stored([splitting_failed(created)])
    write(
        conninfo,
        *stored([created]),
        StoredEvent(created.originator_id, 3, failed.topic, failed.state),
    )
    with pytest.raises(NothingToCancel, match="cannot be read"):
        await orders.cancel(created.originator_id, None, CALLER, TRACE)


async def test_an_order_that_another_program_wrote_to_is_refused_and_not_tried_for_ever(
    conninfo: str, orders: InProcessOrders
) -> None:
    created = order_created()
    write(conninfo, *stored([created]), foreign_event(created.originator_id, 2))
    with pytest.raises(NothingToCancel, match="another program") as refused:
        await orders.cancel(created.originator_id, None, CALLER, TRACE)
    assert refused.value.quantities == Quantities(remaining=100)


async def test_an_order_of_newer_code_is_left_to_newer_processes(
    conninfo: str, orders: InProcessOrders
) -> None:
    """It is not refused permanently: newer processes may still release its slices."""
    created = order_created()
    newer = StoredEvent(created.originator_id, 2, "pulse.domain:OrderAmended", b"{}")
    write(conninfo, *stored([created]), newer)
    with pytest.raises(EventTooNew):
        await orders.cancel(created.originator_id, None, CALLER, TRACE)


async def test_with_a_wrong_clock_nothing_is_cancelled(
    conninfo: str, database: Database, store: EventStore
) -> None:
    def off() -> datetime:
        raise ClockOff("this process's clock is 5 s ahead of the database's")

    created = order_created()
    write(conninfo, *stored([created]))
    orders = InProcessOrders(store, OrderReader(database, MAPPER), off, Origin("host:1:abc"))
    with pytest.raises(ClockOff):
        await orders.cancel(created.originator_id, None, CALLER, TRACE)
    assert len(await events_of(store, created)) == 1


async def test_after_an_unknown_outcome_a_retry_resolves_it(
    conninfo: str, database: Database, store: EventStore
) -> None:
    created = order_created()
    write(conninfo, *stored([created]))
    impatient = AppendLimits(answer_seconds=0.3)
    async with running_store(database, limits=impatient) as slow:
        orders = orders_on(database, slow)
        async with log_locked(database) as lock:
            cancelling = asyncio.ensure_future(
                orders.cancel(created.originator_id, "first", CALLER, TRACE)
            )
            await until_waiting_for_lock(database)
            with pytest.raises(AppendOutcomeUnknown):
                await cancelling
            await unlock(lock)
        view = await orders_on(database, store).cancel(
            created.originator_id, "again", CALLER, TRACE
        )
    assert (view.order_queue_status, view.version) == ("CANCELLED", 2)
    _, cancelled = await events_of(store, created)
    assert isinstance(cancelled, OrderCancelled)


async def test_a_stopped_appender_refuses_and_nothing_is_cancelled(
    conninfo: str, database: Database, store: EventStore
) -> None:
    created = order_created()
    write(conninfo, *stored([created]))
    async with running_store(database) as stopping:
        stopping.appender.drain()
        with pytest.raises(AppendRefused):
            await orders_on(database, stopping).cancel(created.originator_id, None, CALLER, TRACE)
    assert len(await events_of(store, created)) == 1


class ReaderWithoutAConnection(OrderReader):
    """After the stream is read, the pool has no connection left."""

    async def parked_position(self, order_id: object) -> int | None:
        raise DatabaseUnavailable(f"no connection to look up {order_id}")


async def test_an_order_is_not_cancelled_unless_it_is_known_not_to_be_parked(
    conninfo: str, database: Database, store: EventStore
) -> None:
    created = order_created()
    write(conninfo, *stored([created]))
    reader = ReaderWithoutAConnection(database, MAPPER)
    orders = InProcessOrders(store, reader, system_clock, Origin("host:1:abc"))
    with pytest.raises(DatabaseUnavailable):
        await orders.cancel(created.originator_id, None, CALLER, TRACE)
    assert len(await events_of(store, created)) == 1


def park(conninfo: str, created: OrderCreated) -> None:
    with psycopg.connect(conninfo) as connection:
        connection.execute(
            "INSERT INTO parked_orders (order_id, position, reason) VALUES (%s, 1, 'a test')",
            (created.originator_id,),
        )

"""Released, expired and cancelled slices in the order queue, and the orders that are due."""

import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from pulse.domain import DueOrder, Event, Halts, fold
from pulse.eventstore import EventStore
from pulse.postgres import Database
from pulse.projections.due_orders import read_due_orders
from pulse.projections.order_view import OrderReader
from pulse.projections.parking import ParkedOrders
from pulse.projections.rebuild import Rebuild
from tests.support.events import (
    MAPPER,
    order_cancelled,
    order_created,
    settled,
    slices_scheduled,
    stored,
)
from tests.support.log import fetch
from tests.support.read_model import folded, project, queue

LONG_AGO = datetime(2026, 3, 2, 3, 45, tzinfo=UTC)


def a_life(rng: random.Random) -> list[Event]:
    """A random history of an order that was split: releases, expiries, perhaps a cancellation."""
    created = order_created(
        num_splits=rng.choice([2, 5, 100]),
        total_quantity=1000,
        duration_minutes=1,
        release=rng.random() < 0.8,
        timestamp=LONG_AGO,
    )
    life: list[Event] = [created, slices_scheduled(created)]
    now = LONG_AGO
    for _ in range(rng.randrange(30)):
        now += timedelta(seconds=rng.choice([0.01, 0.3, 1.0, 5.0, 20.0]))
        life += settled(life, now, max_delay_seconds=rng.choice([0.5, 60]))
        order = fold(life)
        if rng.random() < 0.05 and order is not None and order.unsettled and not order.cancelled:
            life.append(order_cancelled(*life))
    return life


def mixed(lives: Sequence[Sequence[Event]], rng: random.Random) -> list[Event]:
    """These histories as one log, each in its own order."""
    turns = [number for number, life in enumerate(lives) for _ in life]
    rng.shuffle(turns)
    rest = [iter(life) for life in lives]
    return [next(rest[turn]) for turn in turns]


@pytest.mark.parametrize("batch_events", [1, 3, 1000])
async def test_the_queue_is_the_fold_of_the_log(
    database: Database, store: EventStore, batch_events: int
) -> None:
    rng = random.Random(batch_events)
    log = mixed([a_life(rng) for _ in range(30)], rng)
    positions = await store.append_stored(stored(log))
    expected = folded(zip(positions, log, strict=True))

    await project(database, batch_events)
    assert await queue(database) == expected
    assert any(row["expired_quantity"] for row in expected.values())
    assert any(row["cancelled_quantity"] for row in expected.values())

    assert (await Rebuild(database, MAPPER, lambda *_: None, window_events=50).run()).replaced == 0
    await fetch(database, "UPDATE order_queue SET trace_id = 'altered'")
    await fetch(database, "DELETE FROM due_orders")
    await Rebuild(database, MAPPER, lambda *_: None, window_events=50).run()
    assert await queue(database) == expected
    reader = OrderReader(database, MAPPER)
    for order_id, row in expected.items():
        view = await reader.view(order_id)
        assert view is not None
        assert [s.state for s in view.slices] == [s["state"] for s in row["slices"]]
        assert view.quantities.remaining == row["remaining_quantity"]


async def test_due_orders_are_what_the_domain_decides_from(
    database: Database, store: EventStore
) -> None:
    rng = random.Random(7)
    lives = [a_life(rng) for _ in range(40)]
    await store.append_stored(stored(mixed(lives, rng)))
    await project(database)
    due = await read_due_orders(database, 100, halts=Halts(), max_delay_seconds=60)
    assert due.next_seconds is None  # all of it is in the past
    assert {order.order_id: order for order in due.orders} == due_of(lives)
    first = await read_due_orders(database, 3, halts=Halts(), max_delay_seconds=60)
    assert first.orders == due.orders[:3]


def due_of(lives: Iterable[Sequence[Event]]) -> dict[object, DueOrder]:
    """The orders of long ago that have slices to release, with all of these slices."""
    orders = [order for life in lives if (order := fold(life)) is not None]
    return {
        order.id: DueOrder(
            order_id=order.id,
            version=order.version,
            order_unique_key=order.spec.order_unique_key,
            instrument=order.spec.instrument,
            side=order.spec.side,
            placed_by=order.placed_by,
            trace_id=order.trace_id,
            unsettled=order.unsettled,
        )
        for order in orders
        if order.release and order.unsettled
    }


async def test_for_an_order_in_its_window_the_due_slices_and_the_next_one_are_read(
    database: Database, store: EventStore
) -> None:
    created = order_created(
        num_splits=100, duration_minutes=60, timestamp=datetime.now(UTC) - timedelta(minutes=30)
    )
    later = order_created(timestamp=datetime.now(UTC) + timedelta(hours=1))
    lives: list[Event] = [created, slices_scheduled(created), later, slices_scheduled(later)]
    await store.append_stored(stored(lives))
    await project(database)
    due = await read_due_orders(database, 100, halts=Halts(), max_delay_seconds=60)
    (order,) = due.orders
    *come, following = order.unsettled
    assert come[-1].scheduled_at <= due.at < following.scheduled_at
    assert [s.sequence_number for s in order.unsettled] == list(range(1, len(come) + 2))
    assert due.next_seconds == pytest.approx((later.timestamp - due.at).total_seconds(), abs=0.001)


async def test_without_due_orders_there_is_no_order_and_no_next_time(database: Database) -> None:
    due = await read_due_orders(database, 100, halts=Halts(), max_delay_seconds=60)
    assert (due.orders, due.next_seconds) == ((), None)


@pytest.mark.parametrize("fault", ["SLICE", "VERSION", "NOT_RELEASED", "NOT_SPLIT"])
@pytest.mark.parametrize("batch_events", [1, 1000])
async def test_an_event_that_does_not_settle_the_next_slices_parks_its_order(
    database: Database, store: EventStore, fault: str, batch_events: int
) -> None:
    created = order_created(timestamp=LONG_AGO)
    scheduled = slices_scheduled(created)
    (released,) = settled([created, scheduled], LONG_AGO)
    life: dict[str, list[Event]] = {
        "SLICE": [created, scheduled, released, at_version(released, 4)],
        "VERSION": [created, scheduled, at_version(released, 4)],
        "NOT_RELEASED": [msgspec.structs.replace(created, release=False), scheduled, released],
        "NOT_SPLIT": [created, at_version(released, 2)],
    }
    other = order_created(timestamp=LONG_AGO)
    await store.append_stored(stored([*life[fault], other]))

    await project(database, batch_events)

    (parked,) = await ParkedOrders(database, MAPPER).all()
    assert parked.order_id == created.originator_id
    assert "settle the next slices" in parked.reason
    due = await read_due_orders(database, 10, halts=Halts(), max_delay_seconds=60)
    assert due.orders == ()
    assert other.originator_id in await queue(database)


def at_version(event: Event, version: int) -> Event:
    return msgspec.structs.replace(event, originator_version=version)

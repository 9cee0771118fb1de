"""Placing orders: one order for each key, for any number of requests."""

import asyncio
from uuid import UUID, uuid4

import pytest
from eventsourcing.persistence import StoredEvent

from pulse.application.callers import Caller
from pulse.application.in_process import InProcessOrders
from pulse.application.orders import OrderNotFound, Placed
from pulse.application.origin import Origin, system_clock
from pulse.domain import (
    OrderSpec,
    OrderUniqueKeyTaken,
    SlicesScheduled,
    order_id_for,
)
from pulse.eventstore import AppendOutcomeUnknown, EventStore, EventUnreadable
from pulse.postgres import Database, DatabaseUnavailable
from pulse.projections.claims import Claims
from pulse.projections.order_view import FoldedStream, OrderReader, SliceView
from tests.support.cli import write
from tests.support.commands import place_order
from tests.support.events import MAPPER, TRACE, slices_scheduled, stored
from tests.support.log import orders_on, running_store, stored_log
from tests.support.read_model import project

CALLER = Caller()


def requested(order_unique_key: str = "key", total_quantity: int = 100) -> OrderSpec:
    return place_order(order_unique_key, total_quantity=total_quantity).spec


@pytest.fixture
async def orders(database: Database, store: EventStore) -> InProcessOrders:
    return orders_on(database, store)


async def test_an_order_is_placed_and_read_back_at_once(orders: InProcessOrders) -> None:
    placed = await orders.place(requested("key-1", 123), CALLER, TRACE)
    assert placed == Placed(order_id_for("internal", "key-1"), "key-1", created=True, position=1)
    view = await orders.order(placed.order_id, CALLER)
    assert (view.order_unique_key, view.total_quantity) == ("key-1", 123)
    assert (view.order_queue_status, view.version, view.slices) == ("PENDING", 1, ())


class ReaderWithoutADatabase(OrderReader):
    """A reader without a database, while the appender's connection works."""

    async def as_created(self, order_id: UUID) -> FoldedStream | None:
        raise DatabaseUnavailable(f"no connection to read {order_id}")


async def test_the_outcome_is_unknown_if_the_existing_order_cannot_be_read(
    database: Database, store: EventStore
) -> None:
    reader = ReaderWithoutADatabase(database, MAPPER)
    orders = InProcessOrders(store, reader, system_clock, Origin("host:1:abc"))
    await orders.place(requested(), CALLER, TRACE)
    with pytest.raises(AppendOutcomeUnknown):
        await orders.place(requested(), CALLER, TRACE)
    again, new = await orders.place_each([requested(), requested("new")], CALLER, TRACE)
    assert isinstance(again, AppendOutcomeUnknown)
    assert new == Placed(order_id_for("internal", "new"), "new", created=True, position=4)


async def test_64_identical_concurrent_orders_are_one_order(
    database: Database, orders: InProcessOrders
) -> None:
    placings = [orders.place(requested(), CALLER, TRACE) for _ in range(64)]
    placed = await asyncio.gather(*placings)
    assert sorted(p.created for p in placed) == [False] * 63 + [True]
    assert {p.order_id for p in placed} == {order_id_for("internal", "key")}
    assert len(await stored_log(database)) == 1


async def test_of_64_different_concurrent_orders_with_one_key_63_are_refused(
    database: Database, orders: InProcessOrders
) -> None:
    placings = [orders.place(requested("key", 100 + n), CALLER, TRACE) for n in range(64)]
    outcomes = await asyncio.gather(*placings, return_exceptions=True)
    placed = [outcome for outcome in outcomes if isinstance(outcome, Placed)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, OrderUniqueKeyTaken)]
    assert [p.created for p in placed] == [True]
    assert len(refused) == 63
    assert {r.existing_order_id for r in refused} == {placed[0].order_id}
    assert {r.order_unique_key for r in refused} == {"key"}
    view = await orders.order(placed[0].order_id, CALLER)
    assert view.total_quantity == 100 + outcomes.index(placed[0])
    assert len(await stored_log(database)) == 1


async def test_identical_orders_from_two_processes_at_once_are_one_order(
    database: Database, orders: InProcessOrders
) -> None:
    async with running_store(database) as elsewhere:
        others = orders_on(database, elsewhere)
        placings = [
            (orders, others)[n % 2].place(requested(f"key-{n // 8}"), CALLER, TRACE)
            for n in range(64)
        ]
        placed = await asyncio.gather(*placings)
    for start in range(0, 64, 8):
        assert sum(p.created for p in placed[start : start + 8]) == 1
    assert len(await stored_log(database)) == 8


async def test_the_same_key_in_two_scopes_is_two_orders(
    database: Database, orders: InProcessOrders
) -> None:
    callers = [Caller("anonymous", scope) for scope in ("internal", "https://a|x", "https://a|y")]
    placings = [
        orders.place(requested("key", 100 + n), caller, TRACE) for n, caller in enumerate(callers)
    ]
    placed = await asyncio.gather(*placings)
    assert [p.created for p in placed] == [True, True, True]
    assert len({p.order_id for p in placed}) == 3
    assert len(await stored_log(database)) == 3
    with pytest.raises(OrderUniqueKeyTaken) as refusal:
        await orders.place(requested("key", 999), callers[1], TRACE)
    assert refusal.value.existing_order_id == placed[1].order_id


async def test_the_same_order_again_is_the_same_order_even_when_it_is_settled(
    store: EventStore, orders: InProcessOrders
) -> None:
    first = await orders.place(requested(), CALLER, TRACE)
    (record,) = await store.read_stream(first.order_id)
    created = MAPPER.event_of(record)
    await store.append_stored(stored([slices_scheduled(created)]))  # type: ignore[arg-type]
    again = await orders.place(requested(), Caller("someone else"), TRACE)
    assert again == Placed(first.order_id, "key", created=False, position=first.position)
    view = await orders.order(first.order_id, CALLER)
    assert (view.order_queue_status, view.placed_by) == ("COMPLETED", "anonymous")


async def test_the_view_shows_the_claim_only_while_the_order_is_in_progress(
    database: Database, store: EventStore, orders: InProcessOrders
) -> None:
    placed = await orders.place(requested(), CALLER, TRACE)
    await project(database)
    claims = Claims(database, "worker-1")
    claim = (await claims.claim(1))[placed.order_id]
    view = await orders.order(placed.order_id, CALLER)
    assert view.order_queue_status == "IN_PROGRESS"
    assert (view.claimed_by, view.claimed_at) == ("worker-1", claim.claimed_at)
    (record,) = await store.read_stream(placed.order_id)
    scheduled = slices_scheduled(MAPPER.event_of(record))  # type: ignore[arg-type]
    await store.append(scheduled)
    view = await orders.order(placed.order_id, CALLER)
    assert view.order_queue_status == "COMPLETED"
    assert (view.claimed_by, view.claimed_at) == (None, None)
    assert view.slices == tuple(
        SliceView(s.sequence_number, s.quantity, s.scheduled_at, "SCHEDULED")
        for s in scheduled.slices
    )


async def test_an_order_that_was_never_placed_is_not_found(orders: InProcessOrders) -> None:
    unknown: UUID = uuid4()
    with pytest.raises(OrderNotFound):
        await orders.order(unknown, CALLER)
    with pytest.raises(OrderNotFound):
        await orders.history(unknown, Caller())


async def test_an_order_is_read_only_by_its_owner_and_the_internal_api(
    orders: InProcessOrders,
) -> None:
    alice, bob = Caller.of_token("issuer", "alice"), Caller.of_token("issuer", "bob")
    placed = await orders.place(requested(), alice, TRACE)
    for reader in (alice, CALLER):
        assert (await orders.order(placed.order_id, reader)).placed_by == "issuer|alice"
    with pytest.raises(OrderNotFound):
        await orders.order(placed.order_id, bob)


async def test_another_caller_does_not_learn_that_an_order_is_unreadable(
    conninfo: str, orders: InProcessOrders
) -> None:
    alice, bob = Caller.of_token("issuer", "alice"), Caller.of_token("issuer", "bob")
    placed = await orders.place(requested(), alice, TRACE)
    broken = StoredEvent(placed.order_id, 2, SlicesScheduled.TOPIC, b"broken")
    await asyncio.to_thread(write, conninfo, broken)
    for reader in (alice, CALLER):
        with pytest.raises(EventUnreadable):
            await orders.order(placed.order_id, reader)
    with pytest.raises(OrderNotFound):
        await orders.order(placed.order_id, bob)

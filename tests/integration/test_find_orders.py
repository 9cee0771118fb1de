"""Finding orders: by key, caller, trace and time of creation, alone and combined."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, get_args
from uuid import UUID

import msgspec
import psycopg
import pytest

from pulse.application.callers import Caller
from pulse.application.in_process import MAX_RECORDING_DIFFERENCE, InProcessOrders
from pulse.application.orders import OwnOrderQuery
from pulse.application.origin import Origin, system_clock
from pulse.domain import INTERNAL_SCOPE, Event, OrderCreated, order_id_for
from pulse.eventstore import EventStore
from pulse.postgres import Database
from pulse.projections import lists
from pulse.projections.claims import Claims
from pulse.projections.lists import OrderQuery, read_orders
from pulse.projections.order_view import OrderQueueStatus, OrderReader, OrderView
from tests.support.database import as_superuser
from tests.support.events import (
    TRACE,
    order_cancelled,
    order_created,
    slices_scheduled,
    splitting_failed,
    stored,
)
from tests.support.log import fetch, fetch_as_superuser, running_appender
from tests.support.read_model import project
from tests.support.splitting import hold

CALLERS = ["oms", "desk", "https://issuer.example/|alice"]
TRACES = ["t1", "t%", "t_"]
INSTRUMENTS = ["NSE:A", "NSE:B"]
STATUSES: list[OrderQueueStatus | None] = [None, *get_args(OrderQueueStatus)]


@pytest.fixture
async def orders(database: Database) -> InProcessOrders:
    store = EventStore(database, on_commit=lambda: None)
    reader = OrderReader(database, store.mapper)
    return InProcessOrders(store, reader, system_clock, Origin("host:1:abc"))


def created_by(number: int, **changes: Any) -> OrderCreated:
    trace = msgspec.structs.replace(TRACE, trace_id=TRACES[number // 5 % 3])
    fields: dict[str, Any] = {
        "trace": trace,
        "placed_by": CALLERS[number // 2 % 3],
        "instrument": INSTRUMENTS[number // 3 % 2],
    }
    return order_created(**fields | changes)


async def append(database: Database, events: Iterable[Event]) -> None:
    async with running_appender(database) as appender:
        await appender.append(stored(list(events)))


async def a_mixed_queue(database: Database) -> list[OrderCreated]:
    """60 orders, oldest first, in every state and with every filter's values."""
    created = [created_by(n) for n in range(60)]
    outcomes = (slices_scheduled, splitting_failed, order_cancelled)
    settled = [outcomes[n % 7 % 3](order) for n, order in enumerate(created) if n % 7 < 5]
    await append(database, [*created, *settled])
    await project(database)
    waiting = [order for n, order in enumerate(created) if n % 7 == 5]
    await hold(database, waiting)
    await Claims(database, "worker-1").release([waiting[0].originator_id])
    return created


async def read_all(database: Database, limit: int = 7, **filters: Any) -> list[OrderView]:
    found: list[OrderView] = []
    before = None
    for _ in range(500):
        page = await read_orders(database, OrderQuery(limit=limit, before=before, **filters))
        found += page.orders
        before = page.next_before
        if before is None:
            return found
    raise AssertionError("the pages have no end")


def ids(orders: Iterable[OrderView]) -> list[UUID]:
    return [order.order_id for order in orders]


@pytest.mark.parametrize("examined", [5, 2000])
@pytest.mark.parametrize("of_caller_only", [False, True])
async def test_filters_combine_and_list_what_matches_and_nothing_else(
    database: Database, monkeypatch: pytest.MonkeyPatch, examined: int, *, of_caller_only: bool
) -> None:
    created = await a_mixed_queue(database)
    traces = {order.originator_id: order.trace.trace_id for order in created}
    everything = await read_all(database, 200)
    assert len(everything) == 60
    monkeypatch.setattr(lists, "MAX_EXAMINED", examined)
    callers = ["oms", "nobody"] if of_caller_only else [None, "oms", "nobody"]
    for status, instrument, placed_by, trace_id in product(
        STATUSES, [None, "NSE:A"], callers, [None, "t%", "t"]
    ):
        found = await read_all(
            database,
            order_queue_status=status,
            instrument=instrument,
            placed_by=placed_by,
            trace_id=trace_id,
            of_caller_only=of_caller_only,
        )
        assert found == [
            order
            for order in everything
            if status in {None, order.order_queue_status}
            and instrument in {None, order.instrument}
            and placed_by in {None, order.placed_by}
            and trace_id in {None, traces[order.order_id]}
        ], (status, instrument, placed_by, trace_id)


async def test_an_order_is_found_by_its_id_with_every_other_filter(database: Database) -> None:
    created = await a_mixed_queue(database)
    order_id = created[17].originator_id
    (found,) = await read_all(database, order_id=order_id)
    assert found.order_id == order_id
    page = await read_orders(database, OrderQuery(limit=1, order_id=order_id))
    assert page.next_before is None
    assert await read_all(database, order_id=order_id, placed_by=found.placed_by) == [found]
    assert await read_all(database, order_id=order_id, placed_by="nobody") == []
    assert await read_all(database, order_id=order_id_for(INTERNAL_SCOPE, "none")) == []


async def test_a_page_has_the_last_order_that_it_examined(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = [order_created(placed_by="oms") for _ in range(5)]
    await append(database, created)
    await project(database)
    monkeypatch.setattr(lists, "MAX_EXAMINED", 2)
    query = OrderQuery(limit=9, placed_by="oms", instrument="NSE:NONE")
    page = await read_orders(database, query)
    assert (page.orders, page.next_before) == ((), 4)
    assert page.last_examined == created[3].originator_id
    page = await read_orders(database, msgspec.structs.replace(query, before=2))
    assert (page.orders, page.next_before, page.last_examined) == ((), None, None)


async def spread_over_buckets(database: Database, count: int) -> None:
    """This many orders of caller `oms`, each in its own bucket of positions."""
    await append(database, [order_created(placed_by="oms") for _ in range(count)])
    await project(database)
    await fetch(
        database,
        "UPDATE order_queue SET created_position = created_position * 262144,"
        " state = 'FAILED', failure_reason = 'TOO_LATE', expired_quantity = total_quantity",
    )
    await fetch_as_superuser(database, "TRUNCATE pending_orders")
    await fetch(database, "UPDATE notification_tracking SET notification_id = 262144 * 20::bigint")


@pytest.mark.parametrize("filters", [{"placed_by": "oms"}, {"trace_id": TRACE.trace_id}])
async def test_orders_in_different_buckets_are_listed_newest_first(
    database: Database, filters: dict[str, str]
) -> None:
    await spread_over_buckets(database, 9)
    everything = ids(await read_all(database, 200))
    assert len(everything) == 9
    for limit in (1, 2, 4, 9, 20):
        assert ids(await read_all(database, limit, **filters)) == everything


async def record_at(
    database: Database, times: Iterable[datetime], created_at: Iterable[datetime] | None = None
) -> list[UUID]:
    """An order for each of these recorded times, and by default with these times of creation."""
    times = list(times)
    created = [order_created(timestamp=at) for at in (times if created_at is None else created_at)]
    async with await psycopg.AsyncConnection.connect(as_superuser(database.conninfo)) as connection:
        for order, event, at in zip(created, stored(created), times, strict=True):
            await connection.execute(
                "INSERT INTO stored_events (originator_id, originator_version, topic, state,"
                " recorded_at) VALUES (%s, %s, %s, %s, %s)",
                (order.originator_id, 1, event.topic, event.state, at),
            )
    await project(database)
    return [order.originator_id for order in created]


MIDNIGHT = datetime(2026, 1, 5, tzinfo=UTC)


async def test_times_of_creation_are_bounds_to_the_microsecond(
    database: Database, orders: InProcessOrders
) -> None:
    tick = timedelta(microseconds=1)
    times = [MIDNIGHT + timedelta(minutes=n) for n in range(50)]
    placed = await record_at(database, times)

    async def found(**bounds: datetime) -> list[int]:
        page = await orders.orders(OrderQuery(limit=200, **bounds))  # type: ignore[arg-type]
        return [placed.index(order.order_id) for order in page.orders]

    assert await found(created_from=times[20]) == list(range(49, 19, -1))
    assert await found(created_from=times[20] + tick) == list(range(49, 20, -1))
    assert await found(created_before=times[20]) == list(range(19, -1, -1))
    assert await found(created_before=times[20] + tick) == list(range(20, -1, -1))
    assert await found(created_from=times[7], created_before=times[9]) == [8, 7]
    assert await found(created_from=times[7], created_before=times[7]) == []
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    assert len(await found(created_from=first, created_before=last)) == 50
    assert await found(created_before=first) == []
    assert await found(created_from=last) == []


async def test_orders_recorded_out_of_order_are_found_by_their_time_of_creation(
    database: Database, orders: InProcessOrders
) -> None:
    """The log records an order some time after its creation, by another clock."""
    recorded = [MIDNIGHT + timedelta(seconds=n) for n in range(60)]
    shifts = [timedelta(seconds=n % 19 - 9, microseconds=n) for n in range(60)]
    assert max(map(abs, shifts)) < MAX_RECORDING_DIFFERENCE
    created_at = [time + shift for time, shift in zip(recorded, shifts, strict=True)]
    placed = await record_at(database, recorded, created_at)
    for begin, end in [(0, 60), (10, 40), (25, 26), (30, 31), (-20, 5), (55, 90)]:
        bounds = MIDNIGHT + timedelta(seconds=begin), MIDNIGHT + timedelta(seconds=end)
        page = await orders.orders(
            OrderQuery(limit=200, created_from=bounds[0], created_before=bounds[1])
        )
        expected = [
            order_id
            for order_id, at in zip(placed, created_at, strict=True)
            if bounds[0] <= at < bounds[1]
        ]
        assert ids(page.orders) == expected[::-1]


async def test_positions_are_found_by_recorded_times_on_a_log_with_gaps(
    database: Database,
) -> None:
    store = EventStore(database, on_commit=lambda: None)
    assert await store.positions_at([MIDNIGHT]) == [1]
    await fetch_as_superuser(database, "SELECT setval('stored_events_notification_id_seq', 100)")
    await record_at(database, [MIDNIGHT, MIDNIGHT, MIDNIGHT + timedelta(hours=1)])
    await fetch_as_superuser(database, "SELECT setval('stored_events_notification_id_seq', 100000)")
    await record_at(database, [MIDNIGHT + timedelta(hours=2)])
    hours = [MIDNIGHT + timedelta(minutes=minutes) for minutes in (-1, 0, 1, 60, 61, 120, 121)]
    below, at, after, one, beyond, two, end = await store.positions_at(hours)
    assert below <= 101
    assert at <= 101
    assert 102 < after <= 103
    assert 102 < one <= 103
    assert 103 < beyond <= 100_001
    assert 103 < two <= 100_001
    assert end == 100_002


async def test_a_callers_own_orders_are_those_of_its_scope(
    database: Database, orders: InProcessOrders
) -> None:
    alice, bob = (Caller.of_token("https://issuer.example/", name) for name in ("alice", "bob"))
    created = [
        order_created(
            f"k{n}",
            originator_id=order_id_for(caller.key_scope, f"k{n}"),
            key_scope=caller.key_scope,
            placed_by=caller.placed_by,
        )
        for n, caller in enumerate([alice, bob] * 5)
    ]
    await append(database, created)
    await project(database)
    listed: list[UUID] = []
    cursor = None
    while True:
        page = await orders.own_orders(OwnOrderQuery(limit=2, cursor=cursor), alice)
        listed += ids(page.orders)
        cursor = page.next_cursor
        if cursor is None:
            break
    assert listed == [order.originator_id for order in created[::2]][::-1]
    (found,) = (
        await orders.own_orders(OwnOrderQuery(limit=9, order_unique_key="k4"), alice)
    ).orders
    assert found.order_id == created[4].originator_id
    assert not (
        await orders.own_orders(OwnOrderQuery(limit=9, order_unique_key="k5"), alice)
    ).orders

"""The list of orders: every filter, and consistent pages while orders are placed and settled."""

import asyncio
import random
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any, get_args
from uuid import UUID

import pytest

from pulse.domain import Event, OrderCreated, evolve
from pulse.postgres import Database, DatabaseUnavailable
from pulse.projections.claims import Claims
from pulse.projections.lists import MAX_ORDERS_PER_PAGE, OrderPage, OrderQuery, read_orders
from pulse.projections.order_view import OrderQueueStatus, OrderReader, OrderView
from pulse.projections.rebuild import Rebuild
from tests.support.events import (
    MAPPER,
    order_cancelled,
    order_created,
    slices_scheduled,
    splitting_failed,
    stored,
    timed_out,
)
from tests.support.log import fetch, running_appender
from tests.support.read_model import project, projector
from tests.support.splitting import hold

INSTRUMENTS = ["NSE:A", "NSE:AB", "NSE:A-", "NSE:A&", "BSE:A"]
STATUSES: list[OrderQueueStatus] = list(get_args(OrderQueueStatus))
FILTERS = list(product([None, *STATUSES], [None, *INSTRUMENTS, "NSE:NOBODY"]))


async def append(database: Database, events: Sequence[Event]) -> None:
    async with running_appender(database) as appender:
        await appender.append(stored(events))


async def release(database: Database, orders: Iterable[OrderCreated]) -> None:
    await Claims(database, "worker-1").release([order.originator_id for order in orders])


def outcome_of(number: int, created: OrderCreated) -> Event:
    outcomes = (slices_scheduled, splitting_failed, timed_out, order_cancelled)
    return outcomes[number // 2 % 4](created)


async def a_mixed_queue(database: Database) -> list[OrderCreated]:
    """60 orders, oldest first: settled in any order, claimed, released, never claimed."""
    created = [order_created(instrument=INSTRUMENTS[n % 5]) for n in range(60)]
    settled = [outcome_of(n, order) for n, order in enumerate(created) if n % 4 != 1]
    random.Random(7).shuffle(settled)
    await append(database, [*created, *settled])
    await project(database)
    waiting = [order for n, order in enumerate(created) if n % 4 == 1]
    await hold(database, waiting[:10])
    await release(database, waiting[5:10])
    return created


async def read_all(database: Database, limit: int, **filters: Any) -> list[OrderView]:
    orders: list[OrderView] = []
    before = None
    while True:
        query = OrderQuery(limit=limit, before=before, **filters)
        page = await read_orders(database, query)
        orders += page.orders
        before = page.next_before
        if before is None:
            return orders
        assert len(page.orders) == limit
        assert len(orders) < 500, "the pages have no end"


def ids(orders: Iterable[OrderView]) -> list[UUID]:
    return [order.order_id for order in orders]


async def test_an_empty_list_has_an_as_of_position(database: Database) -> None:
    page = await read_orders(database, OrderQuery(limit=50))
    assert page == OrderPage(orders=(), as_of_position=0, next_before=None)
    await append(database, [order_created()])
    await project(database)
    page = await read_orders(database, OrderQuery(limit=50, order_queue_status="FAILED"))
    assert page == OrderPage((), as_of_position=1, next_before=None)


async def test_each_order_is_listed_as_it_is_read_newest_first(database: Database) -> None:
    created = await a_mixed_queue(database)
    reader = OrderReader(database, MAPPER)
    listed = await read_all(database, 200)
    assert ids(listed) == [order.originator_id for order in reversed(created)]
    assert listed == [await reader.view(order.order_id) for order in listed]
    assert {order.order_queue_status for order in listed} == set(STATUSES)
    assert all(order.slices for order in listed if order.order_queue_status == "COMPLETED")


@pytest.mark.parametrize("limit", [1, 7, MAX_ORDERS_PER_PAGE])
async def test_every_filter_lists_what_matches_and_nothing_else(
    database: Database, limit: int
) -> None:
    await a_mixed_queue(database)
    everything = await read_all(database, MAX_ORDERS_PER_PAGE)
    assert len(everything) == 60
    for status, instrument in FILTERS:
        listed = await read_all(database, limit, order_queue_status=status, instrument=instrument)
        assert listed == [
            order
            for order in everything
            if status in {None, order.order_queue_status} and instrument in {None, order.instrument}
        ], (status, instrument)


async def test_a_page_that_ends_with_the_list_has_no_next(database: Database) -> None:
    await append(database, [order_created() for _ in range(4)])
    await project(database)
    assert (await read_orders(database, OrderQuery(limit=4))).next_before is None
    page = await read_orders(database, OrderQuery(limit=3))
    assert page.next_before == 2
    last = await read_orders(database, OrderQuery(limit=3, before=page.next_before))
    assert (len(last.orders), last.next_before) == (1, None)


@pytest.mark.parametrize("limit", [0, -1, MAX_ORDERS_PER_PAGE + 1])
async def test_a_page_without_a_valid_limit_is_refused(database: Database, limit: int) -> None:
    with pytest.raises(ValueError, match="1 to 200"):
        await read_orders(database, OrderQuery(limit=limit))


async def test_the_list_follows_the_projection_and_gives_its_position(database: Database) -> None:
    created = [order_created() for _ in range(5)]
    await append(database, created)
    await projector(database, batch_events=3).run_once()
    page = await read_orders(database, OrderQuery(limit=50))
    assert page.as_of_position == 3
    assert ids(page.orders) == [order.originator_id for order in reversed(created[:3])]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("instrument", [None, "NSE:A"])
async def test_pages_neither_skip_nor_repeat_while_orders_come_and_are_settled(
    database: Database, seed: int, instrument: str | None
) -> None:
    chance = random.Random(seed)
    pending = [order_created(instrument=chance.choice(INSTRUMENTS)) for _ in range(40)]
    await append(database, pending)
    await project(database)
    at_first = ids(await read_all(database, 200, instrument=instrument))
    seen: list[UUID] = []
    before: int | None = None
    while True:
        query = OrderQuery(limit=chance.randint(1, 5), before=before, instrument=instrument)
        page = await read_orders(database, query)
        seen += ids(page.orders)
        before = page.next_before
        if before is None:
            break
        assert len(seen) < 500, "the pages have no end"
        chance.shuffle(pending)
        settled = [outcome_of(chance.randrange(3), pending.pop()) for _ in range(2) if pending]
        arrived = [order_created(instrument=chance.choice(INSTRUMENTS)) for _ in range(2)]
        await append(database, [*settled, *arrived])
        pending += arrived
        await project(database)
    assert seen == at_first


@pytest.mark.parametrize("status", ["PENDING", "COMPLETED", "FAILED"])
async def test_pages_of_a_status_have_every_order_that_kept_it(
    database: Database, status: OrderQueueStatus
) -> None:
    created = await a_mixed_queue(database)
    held = [o for o in await read_all(database, 200) if o.order_queue_status == "PENDING"]
    to_settle = [order for order in created if order.originator_id in ids(held[::2])]
    kept = ids(await read_all(database, 200, order_queue_status=status))
    kept = [i for i in kept if i not in [order.originator_id for order in to_settle]]
    seen: list[UUID] = []
    before: int | None = None
    while True:
        page = await read_orders(
            database, OrderQuery(limit=2, before=before, order_queue_status=status)
        )
        assert {order.order_queue_status for order in page.orders} <= {status}
        seen += ids(page.orders)
        before = page.next_before
        if before is None:
            break
        assert len(seen) < 500, "the pages have no end"
        if to_settle:
            order = to_settle.pop()
            await append(database, [outcome_of(len(to_settle), order)])
            await project(database)
    assert len(seen) == len(set(seen))
    assert [i for i in seen if i in kept] == kept


async def test_no_row_is_inconsistent_or_missing_while_a_projector_writes(
    database: Database,
) -> None:
    """Each page is equal to the state of the log at its position, in every field."""
    chance = random.Random(1)
    created = [order_created(instrument=chance.choice(INSTRUMENTS)) for _ in range(90)]
    log: list[Event] = [*created, *(outcome_of(n, order) for n, order in enumerate(created))]
    log.sort(
        key=lambda event: (chance.random() + event.originator_version, event.originator_version)
    )
    await append(database, log)
    done = asyncio.Event()

    async def write() -> None:
        await project(database, batch_events=2)
        done.set()

    async def read() -> list[OrderPage]:
        pages: list[OrderPage] = []
        while not done.is_set():
            instrument = chance.choice([None, *INSTRUMENTS])
            query = OrderQuery(limit=MAX_ORDERS_PER_PAGE, instrument=instrument)
            page = await read_orders(database, query)
            assert_is_what_the_log_says(page, log[: page.as_of_position], instrument)
            pages.append(page)
        return pages

    _, *readings = await asyncio.gather(write(), read(), read())
    assert len({page.as_of_position for pages in readings for page in pages}) > 10


def assert_is_what_the_log_says(
    page: OrderPage, log: Sequence[Event], instrument: str | None
) -> None:
    orders: dict[UUID, Any] = {}
    positions: dict[UUID, int] = {}
    for at, event in enumerate(log, start=1):
        orders[event.originator_id] = evolve(orders.get(event.originator_id), event)
        positions[event.originator_id] = at
    expected = {i: o for i, o in orders.items() if instrument in {None, o.spec.instrument}}
    assert set(ids(page.orders)) == set(expected)
    for listed in page.orders:
        order = expected[listed.order_id]
        assert listed.order_queue_status == order.state
        assert tuple(s.state for s in listed.slices) == order.slice_states
        assert listed.quantities == order.quantities
        assert listed.version == order.version
        assert listed.position == positions[listed.order_id]
        assert listed.updated_at == order.updated_at
        assert listed.failure_reason == order.failure_reason


async def test_an_order_in_progress_goes_to_its_outcome_and_never_back_to_pending(
    database: Database,
) -> None:
    created = [order_created() for _ in range(60)]
    await append(database, created)
    await project(database)
    await hold(database, created)
    await append(database, [outcome_of(n, order) for n, order in enumerate(created)])
    done = asyncio.Event()

    async def write() -> None:
        await project(database, batch_events=1)
        done.set()

    async def read() -> int:
        reads = 0
        while not done.is_set():
            page = await read_orders(database, OrderQuery(limit=200))
            for order in page.orders:
                claimed = order.claimed_by is not None and order.claimed_at is not None
                assert claimed == (order.order_queue_status == "IN_PROGRESS")
                assert order.order_queue_status != "PENDING"
            reads += 1
        return reads

    _, reads = await asyncio.gather(write(), read())
    assert reads > 5


async def test_the_lists_stay_available_during_a_rebuild(database: Database) -> None:
    await a_mixed_queue(database)
    before = await read_all(database, 7)
    for _ in range(3):
        await Rebuild(database, MAPPER, lambda _, __: None).run()
        for _ in range(4):
            assert await read_all(database, 7) == before


async def test_a_database_without_the_tables_is_unavailable_and_its_connections_stay_usable(
    empty_conninfo: str,
) -> None:
    database = Database(empty_conninfo, pool_size=1)
    await database.open()
    try:
        for _ in range(3):
            with pytest.raises(DatabaseUnavailable, match="does not exist"):
                await read_orders(database, OrderQuery(limit=50))
        assert await fetch(database, "SELECT 1") == [(1,)]
    finally:
        await database.close()


async def test_every_connection_has_sorting_disabled(database: Database) -> None:
    """Also after a read on the connection."""
    await read_orders(database, OrderQuery(limit=50))
    shown = [row for _ in range(5) for row in await fetch(database, "SHOW enable_sort")]
    assert shown == [("off",)] * 5

"""Another caller's order and a missing one cannot be distinguished by time or work."""

import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any, TypeVar
from uuid import UUID, uuid4

import psycopg
import pytest

from pulse.application.callers import Caller
from pulse.application.in_process import InProcessOrders
from pulse.application.orders import OrderNotFound
from pulse.application.origin import Origin, system_clock
from pulse.domain import INTERNAL_SCOPE, Event, OrderCreated, order_id_for
from pulse.eventstore import EventMapper, EventTooNew, EventUnreadable, RecordedEvent
from pulse.postgres import Connection, Database
from pulse.projections.order_view import OrderReader
from tests.support.cli import write
from tests.support.events import TRACE, order_created, slices_scheduled, stored
from tests.support.log import running_store

T = TypeVar("T")
ALICE = Caller.of_token("https://issuer.example", "alice")
BOB = Caller.of_token("https://issuer.example", "bob")


class CountingDatabase(Database):
    """Counts its reads."""

    reads = 0

    async def read(self, query: Callable[[Connection], Awaitable[T]]) -> T:
        self.reads += 1
        return await super().read(query)


class CountingMapper(EventMapper):
    """Counts the histories that are decoded."""

    histories = 0

    def events_of(self, records: Iterable[RecordedEvent]) -> Iterator[Event]:
        self.histories += 1
        return super().events_of(records)


class CountedUseCase:
    """A use case whose work can be counted."""

    def __init__(self, database: CountingDatabase, mapper: CountingMapper, store: Any) -> None:
        self.database, self.mapper = database, mapper
        reader = OrderReader(database, mapper)
        self.orders = InProcessOrders(store, reader, system_clock, Origin("host:1:abc"))

    async def work_of(self, order_id: UUID, caller: Caller) -> tuple[int, int]:
        """Reads and decoded histories of one request that is answered 404, to read or to cancel."""
        before = self.database.reads, self.mapper.histories
        with pytest.raises(OrderNotFound):
            await self.orders.order(order_id, caller)
        work = self.database.reads - before[0], self.mapper.histories - before[1]
        before = self.database.reads, self.mapper.histories
        with pytest.raises(OrderNotFound):
            await self.orders.cancel(order_id, None, caller, TRACE)
        assert work == (self.database.reads - before[0], self.mapper.histories - before[1])
        return work


@pytest.fixture
async def counted(conninfo: str) -> AsyncIterator[CountedUseCase]:
    database = CountingDatabase(conninfo, pool_size=3)
    await database.open()
    async with running_store(database) as store:
        yield CountedUseCase(database, CountingMapper(), store)
    await database.close()


def placed_by(caller: Caller, key: str = "ouk_1", **changes: Any) -> OrderCreated:
    return order_created(
        key,
        originator_id=order_id_for(caller.key_scope, key),
        key_scope=caller.key_scope,
        placed_by=caller.placed_by,
        **changes,
    )


def hundred_slices(caller: Caller) -> OrderCreated:
    return placed_by(caller, total_quantity=1_000_000, num_splits=100, duration_minutes=1440)


async def test_another_callers_order_of_100_slices_is_the_work_of_a_missing_one(
    conninfo: str, counted: CountedUseCase
) -> None:
    created = hundred_slices(ALICE)
    internal = order_created("ouk_2")
    write(conninfo, *stored([created, slices_scheduled(created), internal]))
    assert len((await counted.orders.order(created.originator_id, ALICE)).slices) == 100

    missing = await counted.work_of(uuid4(), BOB)
    assert missing == (1, 0)
    assert await counted.work_of(created.originator_id, BOB) == missing
    assert await counted.work_of(internal.originator_id, BOB) == missing
    assert await counted.work_of(order_id_for(BOB.key_scope, ""), BOB) != missing  # BOB's own key


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("state", b"garbage"),
        ("state", b"{}"),
        ("state", b'{"order_unique_key":7}'),
        ("topic", "elsewhere:Happened"),
    ],
)
async def test_another_callers_unreadable_order_is_answered_like_a_missing_one(
    conninfo: str, counted: CountedUseCase, column: str, value: object
) -> None:
    created = placed_by(ALICE)
    write(conninfo, *stored([created]))
    altered(conninfo, column, value)
    assert await counted.work_of(created.originator_id, BOB) == (1, 0)


async def test_an_order_of_newer_code_is_visible_only_to_its_owner(
    conninfo: str, counted: CountedUseCase
) -> None:
    created = placed_by(ALICE)
    write(conninfo, *stored([created]))
    newer = stored([created])[0].state[:-1] + b',"class_version":9}'
    altered(conninfo, "state", newer)
    with pytest.raises(EventTooNew):
        await counted.orders.order(created.originator_id, ALICE)
    assert await counted.work_of(created.originator_id, BOB) == (1, 0)


async def test_the_internal_api_reads_every_order_as_before(
    conninfo: str, counted: CountedUseCase
) -> None:
    created = placed_by(ALICE)
    write(conninfo, *stored([created]))
    internal = Caller(key_scope=INTERNAL_SCOPE)
    view = await counted.orders.order(created.originator_id, internal)
    assert view.order_id == created.originator_id
    altered(conninfo, "state", b"garbage")
    with pytest.raises(EventUnreadable):
        await counted.orders.order(created.originator_id, internal)


@pytest.mark.timing
async def test_neither_another_callers_order_nor_a_missing_one_takes_longer(
    conninfo: str, counted: CountedUseCase
) -> None:
    """A sign test over interleaved pairs: by chance alone half of them are slower one way.

    Where the history of 100 slices is read first, three quarters are.
    """
    created = hundred_slices(ALICE)
    write(conninfo, *stored([created, slices_scheduled(created)]))
    slower = []
    for number in range(800):
        order_ids = [created.originator_id, uuid4()]
        times: dict[UUID, float] = {}
        for order_id in order_ids if number % 2 else reversed(order_ids):
            started = time.perf_counter()
            await counted.work_of(order_id, BOB)
            times[order_id] = time.perf_counter() - started
        slower.append(times[order_ids[0]] > times[order_ids[1]])
    assert 0.34 < statistics.mean(slower) < 0.66


def altered(conninfo: str, column: str, value: object) -> None:
    with psycopg.connect(conninfo) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(f"UPDATE stored_events SET {column} = %s", (value,))

"""The queue writer: numbers and times at their limits, and updates that touch no index."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from pulse.domain import Event, OrderCreated, Slice, SlicesScheduled
from pulse.eventstore import EventStore, RecordedEvent
from pulse.postgres import Connection, Database, load_sql
from pulse.projections.parking import ParkedOrders
from pulse.projections.queue_writer import QueueWriter
from tests.support.events import (
    MAPPER,
    order_created,
    orders_created,
    slices_scheduled,
    splitting_failed,
    stored,
)
from tests.support.log import read_log
from tests.support.read_model import folded, project, queue

FIRST_TIME = datetime.min.replace(tzinfo=UTC)
LAST_TIME = datetime.max.replace(tzinfo=UTC)
BEFORE_EPOCH = datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
IN_INDIA = datetime(2026, 1, 5, 9, 15, 0, 1, tzinfo=timezone(timedelta(hours=5, minutes=30)))


def scheduled(created: OrderCreated, *slices: Slice) -> SlicesScheduled:
    return msgspec.structs.replace(slices_scheduled(created), slices=slices)


def a_slice(**changes: Any) -> Slice:
    return Slice(**{"sequence_number": 1, "quantity": 1, "scheduled_at": LAST_TIME, **changes})


async def recorded(store: EventStore, events: Sequence[Event]) -> list[RecordedEvent]:
    positions = await store.append_stored(stored(events))
    return list(await read_log(store, after=positions[0] - 1, limit=len(events)))


async def updates_of(connection: Connection, table: str) -> tuple[int, int]:
    """Rows that this transaction has updated, and how many of them without writing to an index."""
    cursor = await connection.execute(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = %s", (table,)
    )
    row = await cursor.fetchone()
    assert row is not None
    return row[0], row[1]


@pytest.mark.parametrize("batch_events", [1, 1000])
async def test_numbers_and_times_at_their_limits_are_read_as_they_were_written(
    database: Database, store: EventStore, batch_events: int
) -> None:
    created = order_created(total_quantity=2**63 - 1, release=False)
    numbers = (-(2**31), -1, 0, 1, 2**31 - 1)
    quantities = (2**63 - 1, -(2**63), 2**63 - 1, 1, 0)
    times = (
        FIRST_TIME,
        BEFORE_EPOCH,
        BEFORE_EPOCH + timedelta(microseconds=1),
        IN_INDIA,
        LAST_TIME,
    )
    slices = tuple(map(Slice, numbers, quantities, times))
    events: list[Event] = [created, scheduled(created, *slices)]
    log = [(record.position, MAPPER.event_of(record)) for record in await recorded(store, events)]
    await project(database, batch_events)
    assert await queue(database) == folded(log)
    (row,) = (await queue(database)).values()
    found = [(s["sequence_number"], s["quantity"], s["scheduled_at"]) for s in row["slices"]]
    assert found == list(zip(numbers, quantities, times, strict=True))


@pytest.mark.parametrize(
    "misfit",
    [
        {"quantity": 2**63},
        {"quantity": -(2**63) - 1},
        {"quantity": 2**70},
        {"sequence_number": 2**31},
        {"sequence_number": -(2**31) - 1},
        {"sequence_number": 2**40},
    ],
    ids=str,
)
async def test_a_slice_that_fits_no_column_parks_its_order_and_the_others_are_projected(
    database: Database, store: EventStore, misfit: dict[str, int]
) -> None:
    before, poisoned, after = orders_created(3)
    events: list[Event] = []
    for created in (before, poisoned, after):
        slices = [a_slice(scheduled_at=FIRST_TIME), a_slice(sequence_number=2)]
        if created is poisoned:
            last = {"sequence_number": 3, "scheduled_at": BEFORE_EPOCH, **misfit}
            slices.append(a_slice(**last))
        events += [created, scheduled(created, *slices)]
    await recorded(store, events)
    await project(database)
    found = await queue(database)
    assert {order_id: len(row["slices"]) for order_id, row in found.items()} == {
        before.originator_id: 2,
        poisoned.originator_id: 0,
        after.originator_id: 2,
    }
    assert found[poisoned.originator_id]["order_queue_status"] == "PENDING"
    (parked,) = await ParkedOrders(database, MAPPER).all()
    assert parked.order_id == poisoned.originator_id


async def test_the_outcome_of_a_completed_order_writes_to_no_index_of_the_queue(
    database: Database, store: EventStore
) -> None:
    """Though all orders of a page are completed at once."""
    created = [
        order_created(placed_by="p" * (1 + n % 40), instrument=f"NSE:{'I' * (1 + n % 20)}")
        for n in range(400)
    ]
    await store.append_stored(stored(created))
    await project(database)
    completed = await recorded(store, [slices_scheduled(order) for order in created])
    async with await database.connect("test") as connection, connection.transaction():
        await QueueWriter(MAPPER).apply(connection, completed)
        assert await updates_of(connection, "order_queue") == (400, 400)


async def test_the_outcome_of_a_failed_order_enters_the_index_of_failures(
    database: Database, store: EventStore
) -> None:
    created = orders_created(50)
    await store.append_stored(stored(created))
    await project(database)
    failed = await recorded(store, [splitting_failed(order) for order in created])
    async with await database.connect("test") as connection, connection.transaction():
        await QueueWriter(MAPPER).apply(connection, failed)
        assert await updates_of(connection, "order_queue") == (50, 0)


@pytest.mark.parametrize(
    "worker", ["host:1:abcdef", "a-worker-on-a-long-host-name:123456:abcdef.1"]
)
async def test_a_claim_writes_to_no_index_of_the_pending_orders(
    database: Database, store: EventStore, worker: str
) -> None:
    """Though all orders of a page are claimed at once."""
    await store.append_stored(stored(orders_created(500)))
    await project(database)
    claim = load_sql("pulse.projections", "claim_orders")
    async with await database.connect("test") as connection, connection.transaction():
        cursor = await connection.execute(claim, ([1], [], 500, worker))
        assert cursor.rowcount == 500
        assert await updates_of(connection, "pending_orders") == (500, 500)

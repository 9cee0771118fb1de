"""Rebuild: the queue is derived from the log again while orders are placed and settled."""

import asyncio
from typing import Any

import msgspec
import psycopg
import pytest
from eventsourcing.persistence import StoredEvent

from pulse.domain import Event
from pulse.eventstore import EventMapper, EventStore
from pulse.postgres import Database
from pulse.projections.projector import Projected, Projector
from pulse.projections.rebuild import REBUILD_LOCK, Rebuild, RebuildRunning
from tests.support.events import order_created, slices_scheduled, splitting_failed, stored
from tests.support.log import write


def contents(conninfo: str) -> dict[str, list[Any]]:
    tables = {
        "order_queue": "SELECT * FROM order_queue ORDER BY order_id",
        "order_slices": "SELECT * FROM order_slices ORDER BY order_id, sequence_number",
        "order_queue_status": "SELECT * FROM order_queue_status ORDER BY order_id",
        "pending_orders": "SELECT * FROM pending_orders ORDER BY order_id",
        "scheduled_slices": "SELECT * FROM scheduled_slices"
        " ORDER BY created_position, sequence_number",
        "parked_orders": "SELECT order_id, position, reason FROM parked_orders ORDER BY order_id",
        "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
        " ORDER BY indexname",
        "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)"
        " FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2",
        "grants": "SELECT relname, relacl::text, reloptions FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v') ORDER BY 1",
    }
    with psycopg.connect(conninfo) as connection:
        return {name: connection.execute(query).fetchall() for name, query in tables.items()}


async def fill(database: Database, orders: int) -> None:
    store = EventStore(database, on_commit=lambda: None)
    appender = asyncio.create_task(store.appender.run())
    created = [order_created() for _ in range(orders)]
    await asyncio.gather(*(store.append(event) for event in created))
    for number, event in enumerate(created):
        if number % 3 == 0:
            await store.append(slices_scheduled(event))
        elif number % 7 == 0:
            await store.append(splitting_failed(event))
    store.appender.drain()
    await appender


async def project_all(database: Database) -> None:
    projector = Projector(database, EventMapper(), batch_events=100)
    while True:
        result = await projector.run_once()
        if isinstance(result, Projected) and not result.events:
            return


def nothing(_: int, __: int) -> None:
    """No progress shown."""


async def test_a_rebuild_equals_the_live_rows_and_touches_no_claim(
    conninfo: str, database: Database
) -> None:
    await fill(database, 200)
    await project_all(database)
    with psycopg.connect(conninfo) as connection:
        connection.execute("GRANT SELECT ON order_queue, order_queue_status TO PUBLIC")
        connection.execute(
            "UPDATE pending_orders SET claimed_by = 'w', claimed_at = now(),"
            " first_claimed_at = now() WHERE created_position < 10"
        )
    before = contents(conninfo)

    rebuilt = await Rebuild(database, EventMapper(), nothing, window_events=64).run()

    assert contents(conninfo) == before
    assert rebuilt.replaced == 0
    settled = len(before["order_queue"]) - len(before["pending_orders"])
    assert rebuilt.events == len(before["order_queue"]) + settled


async def test_a_rebuild_repairs_rows_that_were_altered_by_hand(
    conninfo: str, database: Database
) -> None:
    await fill(database, 30)
    await project_all(database)
    right = contents(conninfo)
    with psycopg.connect(conninfo) as connection:
        connection.execute("UPDATE order_queue SET placed_by = 'altered'")
        connection.execute("UPDATE due_orders SET due_at = now()")
        connection.execute("DELETE FROM scheduled_slices")
    assert contents(conninfo) != right

    await Rebuild(database, EventMapper(), nothing).run()

    assert contents(conninfo) == right


async def test_no_reader_sees_fewer_rows_while_orders_come_and_the_queue_is_swapped(
    conninfo: str, database: Database
) -> None:
    await fill(database, 100)
    await project_all(database)
    done = asyncio.Event()

    async def keep_writing() -> None:
        while not done.is_set():
            await fill(database, 10)
            await project_all(database)

    async def keep_reading() -> int:
        most, reads = 0, 0
        async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as reader:
            while not done.is_set():
                cursor = await reader.execute(
                    "SELECT count(*), max(position) FROM order_queue_status"
                )
                row = await cursor.fetchone()
                assert row is not None
                assert row[0] >= most, "a reader saw fewer rows than before"
                most, reads = row[0], reads + 1
        return reads

    writing = asyncio.create_task(keep_writing())
    readers = [asyncio.create_task(keep_reading()) for _ in range(3)]
    try:
        for _ in range(5):
            await Rebuild(database, EventMapper(), nothing, window_events=50).run()
    finally:
        done.set()
    await writing
    assert all(reads > 5 for reads in await asyncio.gather(*readers))
    await project_all(database)
    live = contents(conninfo)
    await Rebuild(database, EventMapper(), nothing).run()
    assert contents(conninfo) == live


async def test_a_poisoned_order_is_parked_in_the_rebuilt_queue_too(
    conninfo: str, database: Database
) -> None:
    await fill(database, 20)
    poisoned = stored([order_created("poisoned")])[0]
    write(conninfo, StoredEvent(poisoned.originator_id, 1, poisoned.topic, b"{}"))
    await project_all(database)
    live = contents(conninfo)
    assert len(live["parked_orders"]) == 1

    rebuilt = await Rebuild(database, EventMapper(), nothing).run()

    assert rebuilt.parked_orders == 1
    assert contents(conninfo) == live


@pytest.mark.parametrize(
    "misfit",
    [
        {"num_splits": 2**31},
        {"total_quantity": 2**63},
        {"total_quantity": 2**64},
        {"instrument": "NSE:\0"},
        {"splitter_version": -(2**31) - 1},
    ],
    ids=str,
)
async def test_an_order_that_fits_no_column_is_parked_in_the_rebuilt_queue_too(
    conninfo: str, database: Database, misfit: dict[str, Any]
) -> None:
    await assert_parked_in_the_rebuilt_queue_too(
        conninfo, database, order_created("poisoned", **misfit)
    )


async def test_a_schedule_that_names_a_slice_twice_is_parked_in_the_rebuilt_queue_too(
    conninfo: str, database: Database
) -> None:
    created = order_created("poisoned")
    scheduled = slices_scheduled(created)
    twice = msgspec.structs.replace(scheduled, slices=(*scheduled.slices, scheduled.slices[0]))
    await assert_parked_in_the_rebuilt_queue_too(conninfo, database, created, twice)


async def assert_parked_in_the_rebuilt_queue_too(
    conninfo: str, database: Database, *poison: Event
) -> None:
    await fill(database, 20)
    write(conninfo, *stored(poison))
    await fill(database, 20)
    await project_all(database)
    live = contents(conninfo)
    assert len(live["parked_orders"]) == 1

    rebuilt = await Rebuild(database, EventMapper(), nothing).run()

    assert rebuilt.parked_orders == 1
    assert _without_reasons(contents(conninfo)) == _without_reasons(live)


def _without_reasons(found: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {**found, "parked_orders": [row[:2] for row in found["parked_orders"]]}


async def test_a_crashed_rebuild_leaves_the_live_queue_unchanged(
    conninfo: str, database: Database
) -> None:
    await fill(database, 50)
    await project_all(database)
    live = contents(conninfo)

    def die(position: int, _: int) -> None:
        if position > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await Rebuild(database, EventMapper(), die, window_events=10).run()
    assert contents(conninfo) == live

    await Rebuild(database, EventMapper(), nothing).run()
    assert contents(conninfo) == live


async def test_two_rebuilds_do_not_run_at_once(conninfo: str, database: Database) -> None:
    with psycopg.connect(conninfo) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (REBUILD_LOCK,))
        with pytest.raises(RebuildRunning):
            await Rebuild(database, EventMapper(), nothing).run()


async def test_progress_ends_at_the_live_position(conninfo: str, database: Database) -> None:
    del conninfo
    await fill(database, 40)
    await project_all(database)
    seen: list[tuple[int, int]] = []

    rebuilt = await Rebuild(
        database, EventMapper(), lambda at, live: seen.append((at, live)), window_events=10
    ).run()

    assert seen[0][0] == 0
    assert seen[-1] == (rebuilt.position, rebuilt.position)
    assert [at for at, _ in seen] == sorted(at for at, _ in seen)

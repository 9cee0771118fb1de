"""The projector under races and faults: each event is applied exactly once."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from random import Random

import pytest
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from pulse.domain import Event
from pulse.postgres import Database, DatabaseUnavailable
from pulse.projections.projector import Projected, Projector
from tests.support.database import as_runtime
from tests.support.events import (
    MAPPER,
    order_created,
    orders_created,
    slices_scheduled,
    splitting_failed,
    stored,
    timed_out,
)
from tests.support.log import running_store, terminate, until_waiting_for_lock
from tests.support.read_model import folded, position, project, projector, queue
from tests.support.waiting import until

PROJECT_ONCE = """
import asyncio, sys
from pulse.eventstore import EventMapper
from pulse.postgres import Database
from tests.support.database import as_runtime
from pulse.projections.projector import Projector

async def main():
    database = Database(sys.argv[1], pool_size=1)
    await database.open()
    await Projector(database, EventMapper()).run_once()

asyncio.run(main())
"""


async def filled_log(database: Database, orders: int) -> list[tuple[int, Event]]:
    """Orders of every outcome, their events mixed as a busy day mixes them."""
    random = Random(orders)
    outcomes = (slices_scheduled, splitting_failed, timed_out, slices_scheduled)
    waiting: list[Event] = []
    events: list[Event] = []
    for number, created in enumerate(orders_created(orders)):
        events.append(created)
        waiting.append(outcomes[number % 4](created))
        if random.random() < 0.5:
            events.append(waiting.pop(random.randrange(len(waiting))))
    events += waiting
    async with running_store(database) as store:
        positions: list[int] = []
        for start in range(0, len(events), 500):
            positions += await store.append_stored(stored(events[start : start + 500]))
    return list(zip(positions, events, strict=True))


async def blocking_row(connection: AsyncConnection[TupleRow], event: Event) -> None:
    """Block the projector during its transaction: insert a slice row that it will insert too."""
    await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    await connection.execute(
        """INSERT INTO scheduled_slices (created_position, sequence_number, quantity, scheduled_at)
           SELECT notification_id, 1, 1, now() FROM stored_events
            WHERE originator_id = %s AND originator_version = 1""",
        (event.originator_id,),
    )


async def test_projectors_that_race_apply_each_event_exactly_once(
    database: Database, conninfo: str
) -> None:
    log = await filled_log(database, 1000)
    assert len(log) == 2000
    applied = 0

    async def race(projecting: Projector) -> None:
        nonlocal applied
        while True:
            result = await projecting.run_once()
            if isinstance(result, Projected):
                if not result.events:
                    return
                applied += result.events
            await asyncio.sleep(0)

    async with AsyncExitStack() as pools:
        racers = []
        for batch_events in (17, 29, 50, 101):
            pool = Database(as_runtime(conninfo), pool_size=2)
            await pool.open()
            pools.push_async_callback(pool.close)
            racers.append(race(projector(pool, batch_events)))
        await asyncio.gather(*racers)
    assert applied == 2000
    assert await position(database) == log[-1][0]
    assert await queue(database) == folded(log)


async def test_a_transaction_that_fails_half_way_writes_nothing(
    database: Database,
) -> None:
    before = await filled_log(database, 3)
    await project(database)
    created = order_created()
    events: list[Event] = [*orders_created(3), created, slices_scheduled(created)]
    async with running_store(database) as store:
        positions = await store.append_stored(stored(events))
    projecting = Database(database.conninfo, pool_size=1)
    await projecting.open()
    async with (
        await database.connect("blocker") as blocker,
        blocker.transaction(force_rollback=True),
    ):
        await blocking_row(blocker, created)
        step = asyncio.ensure_future(projector(projecting).run_once())
        await until_waiting_for_lock(database, "pool")
        await terminate(database, "pool")
        with pytest.raises(DatabaseUnavailable):
            await step
    assert await queue(database) == folded(before)
    assert await position(database) == before[-1][0]
    await project(projecting)
    await projecting.close()
    assert await queue(database) == folded([*before, *zip(positions, events, strict=True)])


async def test_a_projector_killed_during_a_transaction_applies_each_event_once(
    database: Database, conninfo: str
) -> None:
    log = await filled_log(database, 20)
    settled = next(e for _, e in log if type(e).__name__ == "SlicesScheduled")
    async with (
        await database.connect("blocker") as blocker,
        blocker.transaction(force_rollback=True),
    ):
        await blocking_row(blocker, settled)
        command = [sys.executable, "-c", PROJECT_ONCE, as_runtime(conninfo)]
        process = subprocess.Popen(command, cwd=os.curdir)  # noqa: ASYNC220 - it does not block
        try:
            await until_waiting_for_lock(database, "pool")
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert await queue(database) == {}

    async def projected() -> bool:
        """Busy until Postgres has noticed the end of the killed process."""
        result = await Projector(database, MAPPER).run_once()
        return isinstance(result, Projected) and result.events == 0

    await until(projected, "another projector gets to the end of the log")
    assert await queue(database) == folded(log)
    assert await position(database) == log[-1][0]


async def test_a_projector_that_lost_its_connection_resumes_at_its_position(
    database: Database,
) -> None:
    """Its backend is terminated repeatedly, mostly during a transaction."""
    log = await filled_log(database, 300)
    broken = Database(database.conninfo, pool_size=1)
    await broken.open()
    kills = 0
    projecting = projector(broken, batch_events=20)

    async def step() -> bool:
        nonlocal kills
        try:
            result = await projecting.run_once()
        except DatabaseUnavailable:
            return False
        if isinstance(result, Projected) and result.events and kills < 8:
            kills += await terminate(database, "pool")
        return isinstance(result, Projected) and not result.events

    await until(step, "everything is projected")
    await broken.close()
    assert kills
    assert await queue(database) == folded(log)

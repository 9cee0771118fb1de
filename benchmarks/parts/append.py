"""Concurrent appends of single events: Pulse's appender compared with plain SQL and others."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID, uuid4

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import ApplicationRecorder, InfrastructureFactory, StoredEvent
from eventsourcing.utils import Environment

from benchmarks.bench import Bench, Candidate
from benchmarks.database import Database
from benchmarks.generators import pgbench
from benchmarks.peers.stock import stock_environment
from benchmarks.sample import creation, new_creation
from pulse.eventstore import EventStore
from pulse.postgres import Database as Pool

TITLE: Final = "append: single events from 16 to 256 concurrent callers"
_CALLERS: Final = (16, 64, 256)
_PGBENCH_CLIENTS: Final = 32
_STOCK_THREADS: Final = 8
_INSERT: Final = """
INSERT INTO stored_events (originator_id, originator_version, topic, state)
SELECT * FROM unnest(%b::uuid[], %b::bigint[], %b::text[], %b::bytea[])
RETURNING originator_id, originator_version, notification_id"""


async def run(bench: Bench) -> None:
    """Compare at each number of callers. Pulse, plain SQL and the library have a database each."""
    async with bench.server() as server, server.database(migrated=False) as library:
        stock = _stock_turns(bench, library)
        for callers in _CALLERS[: bench.sized(3, 1)]:
            async with (
                server.database() as data,
                appending(bench, data, callers) as pulse,
                server.database() as bare,
            ):
                await bench.compare(
                    f"{callers} callers",
                    "events/s",
                    [
                        Candidate("Pulse", pulse),
                        Candidate(
                            f"unnest, {callers} rows", unnest_turn(bench, bare, callers), 0.8
                        ),
                        Candidate("pgbench, 32 clients", _pgbench(bench, bare), 2.0),
                        Candidate("stock recorder", stock["recorder"], 10.0),
                        Candidate("Application.save", stock["save"], 10.0),
                    ],
                )


@asynccontextmanager
async def appending(
    bench: Bench,
    database: Database,
    callers: int,
    new_event: Callable[[], StoredEvent] = new_creation,
) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """Turns of `callers` concurrent callers on Pulse's event store, closed-loop."""
    store = EventStore(Pool(database.conninfo, pool_size=1), on_commit=lambda: None)
    running = asyncio.create_task(store.appender.run())

    async def caller(until: float) -> int:
        for done in itertools.count():
            if time.perf_counter() > until:
                return done
            await store.append_stored((new_event(),))
        raise AssertionError

    async def turn() -> float:
        begun = time.perf_counter()
        until = begun + bench.turn_seconds
        done = await asyncio.gather(*(caller(until) for _ in range(callers)))
        return sum(done) / (time.perf_counter() - begun)

    try:
        yield turn
    finally:
        store.appender.drain()
        await running


def unnest_turn(bench: Bench, database: Database, rows: int) -> Callable[[], Awaitable[float]]:
    """Turns of one connection that inserts `rows` rows per statement."""
    sample = creation()

    async def turn() -> float:
        done, begun = 0, time.perf_counter()
        async with await database.connect() as connection:
            while time.perf_counter() < begun + bench.turn_seconds:
                parameters = (
                    [uuid4() for _ in range(rows)],
                    [1] * rows,
                    [sample.topic] * rows,
                    [sample.state] * rows,
                )
                cursor = connection.cursor(binary=True)
                await cursor.execute(_INSERT, parameters, prepare=True)
                done += len(await cursor.fetchall())
        return done / (time.perf_counter() - begun)

    return turn


def _pgbench(bench: Bench, database: Database) -> Callable[[], Awaitable[float]]:
    sample = creation()
    topic = sample.topic.replace(":", ".")  # pgbench reads a colon as a variable
    script = (
        "INSERT INTO stored_events (originator_id, originator_version, topic, state) VALUES "
        f"(gen_random_uuid(), 1, '{topic}', '\\x{sample.state.hex()}');\n"
    )

    async def turn() -> float:
        return await pgbench(
            database.conninfo,
            script,
            bench.home,
            clients=_PGBENCH_CLIENTS,
            seconds=bench.turn_seconds,
        )

    return turn


class _Order(Aggregate):
    """An order as in the library's tutorial, with an event as large as Pulse's."""

    @event("Created")
    def __init__(self, state: str) -> None:
        self.state = state


def _stock_turns(bench: Bench, database: Database) -> dict[str, Callable[[], Awaitable[float]]]:
    """The library's recorder and application, with the number of threads that is fastest."""
    variables = stock_environment(database.conninfo, POSTGRES_POOL_SIZE=str(_STOCK_THREADS))
    factory = InfrastructureFactory.construct(Environment("stored", variables))
    recorder: ApplicationRecorder = factory.application_recorder()
    application = Application[UUID](env=variables)
    state = creation().state.decode()

    return {
        "recorder": _threaded(bench, lambda: recorder.insert_events([new_creation()])),
        "save": _threaded(bench, lambda: application.save(_Order(state))),
    }


def _threaded(bench: Bench, append: Callable[[], object]) -> Callable[[], Awaitable[float]]:
    def caller(until: float) -> int:
        for done in itertools.count():
            if time.perf_counter() > until:
                return done
            append()
        raise AssertionError

    async def turn() -> float:
        begun = time.perf_counter()
        until = begun + bench.turn_seconds
        callers = (asyncio.to_thread(caller, until) for _ in range(_STOCK_THREADS))
        done = await asyncio.gather(*callers)
        return sum(done) / (time.perf_counter() - begun)

    return turn

"""The seal's cost: projection and appends with and without it, CPU time and bytes per event."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Final

import structlog

from benchmarks.bench import Bench, Candidate
from benchmarks.database import Database, Server
from benchmarks.parts.append import appending
from benchmarks.sample import fill_log
from pulse.eventstore import EventMapper
from pulse.evidence.anchors import AnchorFile, Anchors
from pulse.evidence.note import SigningKey
from pulse.evidence.sealer import Sealed, Sealer
from pulse.loop import Loop
from pulse.postgres import Database as Pool
from pulse.projections.projector import Projected, Projector

TITLE: Final = "the seal: what it costs projection and appends"
_ORDERS: Final = 100_000
_SPLITS: Final = 5
_CALLERS: Final = 64
_KEY: Final = SigningKey("pulse.invalid/benchmark", bytes(32))
_RESET: Final = (
    "SET session_replication_role = replica",
    "TRUNCATE order_queue, pending_orders, scheduled_slices, due_orders, parked_orders",
    "UPDATE notification_tracking SET notification_id = 0",
    "TRUNCATE seal_entries, seal_nodes, seal_keys",
    "DELETE FROM seal_state",
    "INSERT INTO seal_state DEFAULT VALUES",
    "RESET session_replication_role",
)

Turn = Callable[[], Awaitable[float]]


async def run(bench: Bench) -> None:
    """The sealer shares one event loop with the projector or the appender, as in Pulse."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    async with bench.server() as server:
        async with server.database() as database, _pool(database) as pool:
            orders = bench.sized(_ORDERS, 500)
            bench.log(f"loading {2 * orders:,} events")
            await fill_log(database, orders, num_splits=_SPLITS, stage="completed")
            await database.rows("VACUUM ANALYZE stored_events")
            await bench.compare(
                f"projection of {2 * orders:,} events",
                "events/s",
                [
                    Candidate("with the seal", _projecting(bench, server, database, pool, True)),
                    Candidate("without it", _projecting(bench, server, database, pool, False), 0.9),
                ],
                warm=False,
            )
            await _costs(bench, server, database, pool, 2 * orders)
        async with (
            server.database() as sealed,
            server.database() as plain,
            appending(bench, sealed, _CALLERS) as with_seal,
            appending(bench, plain, _CALLERS) as without,
            _pool(sealed) as pool,
        ):
            await bench.compare(
                f"appends of {_CALLERS} callers",
                "events/s",
                [
                    Candidate("with the seal", _while_sealing(bench, pool, with_seal)),
                    Candidate("without it", without, 0.95),
                ],
            )


@asynccontextmanager
async def _pool(database: Database) -> AsyncIterator[Pool]:
    pool = Pool(database.conninfo, pool_size=4)
    await pool.open()
    try:
        yield pool
    finally:
        await pool.close()


def _sealer(bench: Bench, pool: Pool) -> Sealer:
    file = Path(bench.home) / "anchors.txt"
    file.unlink(missing_ok=True)
    return Sealer(pool, lambda: _KEY, Anchors(AnchorFile(file)))


async def _reset(server: Server, database: Database) -> None:
    async with await database.connect() as connection:
        for statement in _RESET:
            await connection.execute(statement)
    await server.checkpoint()


def _projecting(
    bench: Bench,
    server: Server,
    database: Database,
    pool: Pool,
    seals: bool,  # noqa: FBT001 - the candidates differ in nothing else
) -> Turn:
    async def turn() -> float:
        await _reset(server, database)
        async with _sealing(bench, pool) if seals else nullcontext():
            projector, events, begun = Projector(pool, EventMapper()), 0, time.perf_counter()
            while isinstance(step := await projector.run_once(), Projected) and step.events:
                events += step.events
            return events / (time.perf_counter() - begun)

    return turn


@asynccontextmanager
async def _sealing(bench: Bench, pool: Pool) -> AsyncIterator[None]:
    loop = Loop(_sealer(bench, pool), poll_seconds=0.1)
    running = asyncio.create_task(loop.run())
    try:
        yield
    finally:
        loop.stop()
        await running


async def _seal_all(sealer: Sealer) -> None:
    while isinstance(step := await sealer.run_once(), Sealed) and step.events:
        pass


async def _costs(bench: Bench, server: Server, database: Database, pool: Pool, events: int) -> None:
    await _reset(server, database)
    begun, own, servers = time.perf_counter(), time.process_time(), server.cpu_seconds
    await _seal_all(_sealer(bench, pool))
    bench.fact("sealed alone", events / (time.perf_counter() - begun), "events/s")
    own, servers = time.process_time() - own, server.cpu_seconds - servers
    bench.fact("CPU time of Pulse for sealing", 1e6 * own / events, "µs an event")
    bench.fact("CPU time of Postgres for sealing", 1e6 * servers / events, "µs an event")
    own, servers = time.process_time(), server.cpu_seconds
    projector = Projector(pool, EventMapper())
    while isinstance(step := await projector.run_once(), Projected) and step.events:
        pass
    own, servers = time.process_time() - own, server.cpu_seconds - servers
    bench.fact("CPU time of Pulse for projecting", 1e6 * own / events, "µs an event")
    bench.fact("CPU time of Postgres for projecting", 1e6 * servers / events, "µs an event")
    size = await database.figure(
        "SELECT pg_total_relation_size('seal_entries') + pg_total_relation_size('seal_nodes')"
    )
    bench.fact("storage of the seal", size / events, "bytes an event")
    log = await database.figure("SELECT pg_total_relation_size('stored_events')")
    bench.fact("storage of the log", log / events, "bytes an event")


def _while_sealing(bench: Bench, pool: Pool, appends: Turn) -> Turn:
    async def turn() -> float:
        async with _sealing(bench, pool):
            return await appends()

    return turn

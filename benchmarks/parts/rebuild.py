"""Rebuild of an empty queue from a million events, compared with copying the same rows."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any, Final

from benchmarks.bench import Bench, Candidate
from benchmarks.comparison import Comparison
from benchmarks.database import Database, Server
from benchmarks.peers.stock_projection import project_all
from benchmarks.process import Process
from benchmarks.sample import fill_log
from pulse.projections.position import PROJECTION_NAME

TITLE: Final = "rebuild of the read model from 1,000,000 events"
_EVENTS: Final = 1_000_000
_STOCK_EVENTS: Final = 10_000
_RELEASED_ORDERS: Final = 200_000
_SPLITS: Final = 5
_SECONDS: Final = 600.0
_TABLES: Final = ("order_queue", "scheduled_slices")
PROJECTED: Final = """
UPDATE notification_tracking SET notification_id = (SELECT max(notification_id) FROM stored_events)
 WHERE application_name = %s"""
_READ: Final = """
COPY (SELECT notification_id, originator_id, originator_version, topic, state, recorded_at
        FROM stored_events ORDER BY notification_id) TO STDOUT (FORMAT binary)"""


async def run(bench: Bench) -> None:
    """Measure the process `pulse rebuild` and its start. The lower bound copies its result."""
    events = bench.sized(_EVENTS, 4_000)
    async with bench.server() as server, server.database() as database:
        bench.log(f"loading {events:,} events")
        await fill_log(database, events // 2, num_splits=_SPLITS, stage="completed")
        await database.rows(PROJECTED, PROJECTION_NAME)
        await database.rows("VACUUM ANALYZE stored_events")
        peaks: list[float] = []
        comparison = await bench.compare(
            "whole read model",
            "events/s",
            [
                Candidate("Pulse", _rebuilding(bench, database, events, peaks)),
                Candidate("SELECT + COPY", _copying(database, events), 0.5),
            ],
            warm=False,
        )
        bench.fact("peak memory of `pulse rebuild`", max(peaks), "MiB")
        few = bench.sized(_STOCK_EVENTS, 200)
        stock = []
        for _ in range(bench.rounds):
            async with server.database() as small:
                await fill_log(small, few // 2, num_splits=_SPLITS, stage="completed")
                stock.append(await asyncio.to_thread(project_all, small.conninfo, few))
        figures = {"Pulse": comparison.subject.figures, "stock ProjectionRunner": stock}
        goals: dict[str, float | None] = {"stock ProjectionRunner": 20.0}
        setting = f"whole read model; stock runner: {few:,} events"
        bench.add(Comparison.of(setting, "events/s", figures, goals))
        await _released(bench, server)


async def _released(bench: Bench, server: Server) -> None:
    """Orders whose slices were all released: each has seven events, far apart in the log."""
    orders = bench.sized(_RELEASED_ORDERS, 500)
    events = orders * (2 + _SPLITS)
    async with server.database() as database:
        bench.log(f"loading {events:,} events")
        await fill_log(database, orders, num_splits=_SPLITS, stage="released", apart=True)
        await database.rows(PROJECTED, PROJECTION_NAME)
        await database.rows("VACUUM ANALYZE stored_events")
        peaks: list[float] = []
        comparison = await bench.compare(
            f"{orders:,} orders, every slice released",
            "events/s",
            [
                Candidate("Pulse", _rebuilding(bench, database, events, peaks)),
                Candidate("SELECT + COPY", _copying(database, events)),
            ],
            warm=False,
            rounds=min(bench.rounds, 3),
        )
        rate = median(comparison.subject.figures) / (2 + _SPLITS)
        bench.fact("rebuild of orders whose slices were released", rate, "orders/s")
        bench.fact("peak memory of this `pulse rebuild`", max(peaks), "MiB")


def _rebuilding(
    bench: Bench, database: Database, events: int, peaks: list[float]
) -> Callable[[], Awaitable[float]]:
    async def turn() -> float:
        await database.rows("TRUNCATE order_queue, scheduled_slices, pending_orders, due_orders")
        begun = time.perf_counter()
        async with Process.running(
            bench.home,
            *("-m", "pulse.cli", "rebuild", "--unverified"),
            settings={"database_url": database.url},
            ready="",
        ) as process:
            peaks.append(await process.until_ended(_SECONDS))
        return events / (time.perf_counter() - begun)

    return turn


def _copying(database: Database, events: int) -> Callable[[], Awaitable[float]]:
    """Turns that read the log, copy the finished rows and create their indexes."""

    async def turn() -> float:
        async with await database.connect() as connection:
            rows = {table: await _binary(connection, f"TABLE {table}") for table in _TABLES}
            begun = time.perf_counter()
            async with connection.cursor().copy(_READ) as copy:
                async for _ in copy:
                    pass
            await connection.execute("CREATE SCHEMA lower_bound")
            for table in _TABLES:
                await connection.execute(
                    f"CREATE TABLE lower_bound.{table} (LIKE {table} INCLUDING STORAGE)"
                )
                into = f"COPY lower_bound.{table} FROM STDIN (FORMAT binary)"
                async with connection.cursor().copy(into) as copy:
                    for piece in rows[table]:
                        await copy.write(piece)
                for index in await _indexes_of(connection, table):
                    await connection.execute(index)
            took = time.perf_counter() - begun
            await connection.execute("DROP SCHEMA lower_bound CASCADE")
        return events / took

    return turn


async def _binary(connection: Any, source: str) -> list[bytes]:
    async with connection.cursor().copy(f"COPY ({source}) TO STDOUT (FORMAT binary)") as copy:
        return [bytes(piece) async for piece in copy]


async def _indexes_of(connection: Any, table: str) -> list[str]:
    cursor = await connection.execute(
        "SELECT indexdef FROM pg_indexes WHERE tablename = %s AND schemaname = 'public'", (table,)
    )
    return [
        row[0].replace(f"ON public.{table} ", f"ON lower_bound.{table} ")
        for row in await cursor.fetchall()
    ]

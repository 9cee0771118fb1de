"""The time from the acceptance of an order until it is COMPLETED in the read model."""

import asyncio
import bisect
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from statistics import quantiles
from typing import Any, Final
from uuid import UUID, uuid4

import aiohttp
import msgspec
import psycopg

from benchmarks.bench import Bench, Candidate
from benchmarks.comparison import Comparison
from benchmarks.database import Database, Server
from benchmarks.process import Process
from benchmarks.sample import new_creation
from benchmarks.services import plain_service

TITLE: Final = "accepted -> COMPLETED, open loop"
_RATES: Final = (100, 10, 500)
_PLAIN_SERVICE_RATE: Final = 100
_MIN_ORDERS: Final = 50
_POLL_SECONDS: Final = 0.002
_TIMEOUT_SECONDS: Final = 60.0
_POSITION: Final = """
SELECT notification_id FROM notification_tracking WHERE application_name = 'order_queue'"""
_OUTCOMES: Final = """
SELECT originator_id, notification_id FROM stored_events WHERE originator_version = 2"""
_PLAIN_COMPLETED: Final = """
SELECT order_id, extract(epoch FROM split_completed_at)::float8 FROM plain_orders
 WHERE state = 'COMPLETED'"""
_INSERT: Final = """
INSERT INTO stored_events (originator_id, originator_version, topic, state)
VALUES (%b, %b, %b, %b)"""


async def run(bench: Bench) -> None:
    """Compare `pulse up` in one process with the plain service and its worker."""
    async with (
        bench.server() as server,
        _pulse(bench, server) as pulse,
        _plain(bench, server) as plain,
        server.database() as bare,
    ):
        for rate in _RATES[: bench.sized(3, 1)]:
            await _compare(bench, rate, pulse, plain, bare)


async def _compare(
    bench: Bench,
    rate: int,
    pulse: Callable[[int], Awaitable[list[float]]],
    plain: Callable[[int], Awaitable[list[float]]],
    bare: Database,
) -> None:
    latencies_of: dict[str, list[list[float]]] = {}

    def turn_of(
        name: str, measure: Callable[[int], Awaitable[list[float]]]
    ) -> Callable[[], Awaitable[float]]:
        async def turn() -> float:
            latencies = await measure(rate)
            latencies_of.setdefault(name, []).append(latencies)
            return _quantile(latencies, 99)

        return turn

    async def commits(rate: int) -> list[float]:
        return await _commits(bench, bare, rate)

    candidates = [
        Candidate("Pulse", turn_of("Pulse", pulse)),
        Candidate("one commit", turn_of("one commit", commits)),
    ]
    if rate == _PLAIN_SERVICE_RATE:
        candidates.append(Candidate("5 s poll", turn_of("5 s poll", plain)))
    await bench.compare(f"{rate} orders/s, p99", "ms", candidates, warm=False)
    medians = {name: [_quantile(one, 50) for one in found] for name, found in latencies_of.items()}
    bench.add(Comparison.of(f"{rate} orders/s, p50", "ms", medians, {}))
    bench.fact(
        f"accepted -> COMPLETED at {rate}/s, p99",
        _quantile([one for found in latencies_of["Pulse"] for one in found], 99),
        "ms",
    )


@asynccontextmanager
async def _pulse(
    bench: Bench, server: Server
) -> AsyncIterator[Callable[[int], Awaitable[list[float]]]]:
    async with (
        server.database() as database,
        Process.running(
            bench.home, "-m", "pulse.cli", "up", settings={"database_url": database.url}
        ) as process,
    ):

        async def measure(rate: int) -> list[float]:
            """Latencies in ms. Polls the projection's position every 2 ms."""
            seen: list[tuple[int, float]] = []
            watching = asyncio.create_task(_watch(database, seen))
            accepted = await _post_at(rate, bench, f"{process.url}/pulse")
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                while len(outcomes := await _positions(database, accepted)) < len(accepted):
                    await asyncio.sleep(0.05)
                last = max(outcomes.values())
                while not seen or seen[-1][0] < last:
                    await asyncio.sleep(0.01)
            watching.cancel()
            positions = [position for position, _ in seen]
            return [
                1000 * (seen[bisect.bisect_left(positions, outcomes[order])][1] - at)
                for order, at in accepted.items()
            ]

        yield measure


async def _positions(database: Database, accepted: dict[UUID, float]) -> dict[UUID, int]:
    rows = await database.rows(_OUTCOMES)
    return {order: position for order, position in rows if order in accepted}


async def _watch(database: Database, seen: list[tuple[int, float]]) -> None:
    async with await database.connect() as connection:
        while True:
            cursor = await connection.execute(_POSITION, prepare=True)
            position = (await cursor.fetchone())[0]
            if not seen or position > seen[-1][0]:
                seen.append((position, time.time()))
            await asyncio.sleep(_POLL_SECONDS)


async def _post_at(rate: int, bench: Bench, url: str) -> dict[UUID, float]:
    """Post orders open-loop; returns the time at which each was accepted."""
    accepted: dict[UUID, float] = {}
    salt = uuid4().hex[:8]

    async def post(http: aiohttp.ClientSession, number: int) -> None:
        order = {
            "order_unique_key": f"{salt}-{number}",
            "instrument": "NSE:RELIANCE",
            "side": "BUY",
            "total_quantity": 100,
            "split_config": {"num_splits": 5, "duration_minutes": 60},
        }
        async with http.post(f"{url}/internal/orders", json=order) as answer:
            body = await answer.read()
            accepted[UUID(msgspec.json.decode(body)["order_id"])] = time.time()

    async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as posting:
        begun = time.monotonic()
        for number in itertools.count():
            due = begun + number / rate
            if due > begun + max(bench.turn_seconds, _MIN_ORDERS / rate):
                break
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            posting.create_task(post(http, number))
    return accepted


@asynccontextmanager
async def _plain(
    bench: Bench, server: Server
) -> AsyncIterator[Callable[[int], Awaitable[list[float]]]]:
    async with plain_service(bench, server) as plain:

        async def measure(rate: int) -> list[float]:
            """Latencies in ms. The database runs on this machine, so its clock is comparable."""
            accepted = await _post_at(rate, bench, plain.service.url)
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                while True:
                    rows: dict[Any, float] = dict(await plain.database.rows(_PLAIN_COMPLETED))
                    if accepted.keys() <= rows.keys():
                        break
                    await asyncio.sleep(0.1)
            return [1000 * (rows[order] - at) for order, at in accepted.items()]

        yield measure


async def _commits(bench: Bench, database: Database, rate: int) -> list[float]:
    """Latencies in ms of single-row inserts, in sequence, at that rate."""
    found: list[float] = []
    connection: psycopg.AsyncConnection[Any]
    async with await database.connect() as connection:
        begun = time.monotonic()
        for number in range(max(_MIN_ORDERS, round(rate * bench.turn_seconds))):
            await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
            event, sent = new_creation(), time.perf_counter()
            row = (event.originator_id, 1, event.topic, event.state)
            await connection.execute(_INSERT, row, prepare=True)
            found.append(1000 * (time.perf_counter() - sent))
    return found


def _quantile(figures: list[float], percent: int) -> float:
    return quantiles(figures, n=100, method="inclusive")[percent - 1]

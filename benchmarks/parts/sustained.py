"""Orders accepted and completed by all of Pulse in one process that releases no slices.

Drain and rebuild are measured separately.
"""

import asyncio
import time
from typing import Final

import aiohttp

from benchmarks.bench import Bench, Candidate, Turn
from benchmarks.checkout import EARLIER, THIS, Checkout
from benchmarks.comparison import Comparison
from benchmarks.database import Database, Server
from benchmarks.generators import wrk
from benchmarks.parts.drain import ALL_PROJECTED
from benchmarks.process import Process
from benchmarks.sample import fill_log

TITLE: Final = f"sustained: accepted and COMPLETED, compared with {EARLIER}"
_CONNECTIONS: Final = 64
_POST_SECONDS: Final = 10.0
_SMOKE_SECONDS: Final = 1.0
_LIMIT_SECONDS: Final = 300.0
_POLL_SECONDS: Final = 0.1
_BATCH: Final = 500
_DRAINED: Final = 20_000
_REBUILT_EVENTS: Final = 400_000
_SPLITS: Final = 5
_SET_POSITION: Final = """
UPDATE notification_tracking
   SET notification_id = (SELECT max(notification_id) FROM stored_events)
 WHERE application_name = 'order_queue'"""
_UNFINISHED: Final = ("PENDING", "IN_PROGRESS")
_COMPLETED: Final = "SELECT count(*) FROM order_queue_status WHERE order_queue_status = 'COMPLETED'"


async def run(bench: Bench) -> None:
    """Each turn has a new process and database; it ends when the last order is COMPLETED."""
    before = await asyncio.to_thread(Checkout.of_commit, EARLIER)
    accepted: list[float] = []
    async with bench.server() as server:
        through = await bench.compare(
            "until all orders are COMPLETED",
            "orders/s",
            [
                Candidate("this commit", _turns(bench, server, THIS, accepted)),
                Candidate(EARLIER, _turns(bench, server, before, []), 2.0),
            ],
            warm=False,
        )
        drains = [
            Candidate("this commit", _drains(bench, server, THIS)),
            Candidate(EARLIER, _drains(bench, server, before), 1.2),
        ]
        await bench.compare(f"drain, batch {_BATCH}", "orders/s", drains, warm=False)
        rebuilds = [
            Candidate("this commit", _rebuilds(bench, server, THIS)),
            Candidate(EARLIER, _rebuilds(bench, server, before), 1.0),
        ]
        await bench.compare("rebuild of an empty queue", "events/s", rebuilds, warm=False)
    figures = {"COMPLETED": through.subject.figures, "accepted": accepted}
    bench.add(
        Comparison.of("COMPLETED compared with accepted", "orders/s", figures, {"accepted": 0.7})
    )


def _turns(bench: Bench, server: Server, checkout: Checkout, accepted: list[float]) -> Turn:
    seconds = _SMOKE_SECONDS if bench.smoke else _POST_SECONDS

    async def turn() -> float:
        async with (
            server.database(migrated=False) as database,
            Process.running(
                bench.home,
                *("-m", "pulse.cli", "up"),
                settings={"database_url": database.url, "release_slices": False},
                checkout=checkout,
            ) as pulse,
        ):
            begun = time.perf_counter()
            load = await wrk(
                f"{pulse.url}/pulse/internal/orders",
                "post_orders.lua",
                connections=_CONNECTIONS,
                seconds=seconds,
            )
            accepted.append(load.rate)
            await until_all_finished(f"{pulse.url}/pulse/internal/orders")
            taken = time.perf_counter() - begun
            bench.log(f"{checkout.name}: {load.rate:,.0f}/s accepted, last after {taken:.1f} s")
            return await database.figure(_COMPLETED) / taken

    return turn


def _drains(bench: Bench, server: Server, checkout: Checkout) -> Turn:
    orders = bench.sized(_DRAINED, 200)

    async def turn() -> float:
        """Workers that already run; timed from the creations' commit until all is projected."""
        settings = {"batch_size": _BATCH, "log_level": "info"}
        async with (
            server.database(migrated=False) as database,
            Process.running(
                bench.home,
                *("-m", "pulse.cli", "background"),
                settings={"database_url": database.url, **settings},
                ready="workers.started",
                checkout=checkout,
            ),
        ):
            await fill_log(database, orders, num_splits=_SPLITS, stage="created")
            begun = time.perf_counter()
            await database.until(ALL_PROJECTED, 2 * orders, seconds=_LIMIT_SECONDS)
            return orders / (time.perf_counter() - begun)

    return turn


def _rebuilds(bench: Bench, server: Server, checkout: Checkout) -> Turn:
    events = bench.sized(_REBUILT_EVENTS, 400)
    # The sample's ids are not derived from its keys. The earlier commit does not verify the log.
    unverified = ["--unverified"] if checkout == Checkout.this() else []

    async def turn() -> float:
        """The process `pulse rebuild`, including its start."""
        async with server.database(migrated=False) as database:
            await _run(bench, checkout, database, "migrate")
            await fill_log(database, events // 2, num_splits=_SPLITS, stage="completed")
            await database.rows(_SET_POSITION)
            await database.rows("VACUUM ANALYZE stored_events")
            begun = time.perf_counter()
            await _run(bench, checkout, database, "rebuild", *unverified)
            return events / (time.perf_counter() - begun)

    return turn


async def _run(bench: Bench, checkout: Checkout, database: Database, *command: str) -> None:
    async with Process.running(
        bench.home,
        *("-m", "pulse.cli", *command),
        settings={"database_url": database.url},
        ready="",
        checkout=checkout,
    ) as process:
        await process.until_ended(_LIMIT_SECONDS)


async def until_all_finished(url: str) -> None:
    """Wait until no projected order is PENDING or IN_PROGRESS. Lists show projected orders only."""
    async with asyncio.timeout(_LIMIT_SECONDS), aiohttp.ClientSession() as http:
        for status in _UNFINISHED:
            while True:
                async with http.get(f"{url}?order_queue_status={status}&limit=1") as answer:
                    if not (await answer.json())["orders"]:
                        break
                await asyncio.sleep(_POLL_SECONDS)

"""Everything in one process at the default settings: orders accepted, and orders through."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import aiohttp

from benchmarks.bench import Bench, Contestant
from benchmarks.checkout import EARLIER, THIS, Checkout
from benchmarks.comparison import Comparison
from benchmarks.database import Server
from benchmarks.generators import wrk
from benchmarks.process import Process

TITLE: Final = f"sustained: accepted and COMPLETED, beside {EARLIER}"
_CONNECTIONS: Final = 64
_POST_SECONDS: Final = 10.0
_SMOKE_SECONDS: Final = 1.0
_LIMIT_SECONDS: Final = 300.0
_LOOK_AGAIN_SECONDS: Final = 0.1
_UNFINISHED: Final = ("PENDING", "IN_PROGRESS")
_COMPLETED: Final = "SELECT count(*) FROM order_queue_status WHERE order_queue_status = 'COMPLETED'"


async def run(bench: Bench) -> None:
    """Each turn is a process and a database of its own; it ends when the last is COMPLETED."""
    before = await asyncio.to_thread(Checkout.of_commit, EARLIER)
    accepted: list[float] = []
    async with bench.server() as server:
        through = await bench.compare(
            "COMPLETED until the last one is",
            "orders/s",
            [
                Contestant("this commit", _turns(bench, server, THIS, accepted)),
                Contestant(EARLIER, _turns(bench, server, before, []), 2.0),
            ],
            warm=False,
        )
    figures = {"COMPLETED": through.subject.figures, "accepted": accepted}
    bench.add(Comparison.of("COMPLETED beside accepted", "orders/s", figures, {"accepted": 0.7}))


def _turns(
    bench: Bench, server: Server, checkout: Checkout, accepted: list[float]
) -> Callable[[], Awaitable[float]]:
    seconds = _SMOKE_SECONDS if bench.smoke else _POST_SECONDS

    async def turn() -> float:
        async with (
            server.database(migrated=False) as database,
            Process.running(
                bench.home,
                *("-m", "pulse.cli", "up"),
                settings={"database_url": database.url},
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
            await _until_none_is_unfinished(f"{pulse.url}/pulse/internal/orders")
            taken = time.perf_counter() - begun
            bench.say(f"{checkout.name}: {load.rate:,.0f}/s accepted, last after {taken:.1f} s")
            return await database.figure(_COMPLETED) / taken

    return turn


async def _until_none_is_unfinished(url: str) -> None:
    """Return when no order waits or is in progress; 201 means that it is in these lists."""
    async with asyncio.timeout(_LIMIT_SECONDS), aiohttp.ClientSession() as http:
        for status in _UNFINISHED:
            while True:
                async with http.get(f"{url}?order_queue_status={status}&limit=1") as answer:
                    if not (await answer.json())["orders"]:
                        break
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)

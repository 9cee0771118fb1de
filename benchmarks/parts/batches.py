"""Posting a thousand orders at a time, beside the rows alone and beside single posts."""

import time
from collections.abc import Awaitable, Callable
from typing import Final

from benchmarks.bench import Bench, Contestant
from benchmarks.generators import wrk
from benchmarks.parts.append import unnest_turn
from benchmarks.process import Process

TITLE: Final = "POST batches of 1000"
_BATCH: Final = 1000
_CONNECTIONS: Final = 4
_SINGLE_CONNECTIONS: Final = 128


async def run(bench: Bench) -> None:
    """One API; the floor writes the same rows, a thousand a statement."""
    async with (
        bench.server() as server,
        server.database() as data,
        server.database() as bare,
        Process.running(
            bench.home, "-m", "pulse.cli", "api", settings={"database_url": data.url}
        ) as pulse,
    ):
        batches = _posting(bench, pulse.url)
        await bench.compare(
            f"{_CONNECTIONS} connections",
            "orders/s",
            [
                Contestant("Pulse", batches),
                Contestant("unnest, 1000 rows", unnest_turn(bench, bare, _BATCH)),
                Contestant("single POSTs, 128 connections", _single(bench, pulse.url)),
            ],
        )
        begun = time.perf_counter()
        await data.until(
            "SELECT (SELECT max(notification_id) FROM stored_events) <="
            " (SELECT notification_id FROM notification_tracking"
            "   WHERE application_name = 'order_queue')",
            seconds=300,
        )
        bench.fact("projected after the last batch", time.perf_counter() - begun, "s")


def _posting(bench: Bench, url: str) -> Callable[[], Awaitable[float]]:
    async def turn() -> float:
        load = await wrk(
            f"{url}/internal/orders/batch",
            "post_batches.lua",
            connections=_CONNECTIONS,
            seconds=bench.turn_seconds,
        )
        return load.rate * _BATCH

    return turn


def _single(bench: Bench, url: str) -> Callable[[], Awaitable[float]]:
    async def turn() -> float:
        load = await wrk(
            f"{url}/internal/orders",
            "post_orders.lua",
            connections=_SINGLE_CONNECTIONS,
            seconds=bench.turn_seconds,
        )
        return load.rate

    return turn

"""Posts of 1,000 orders at a time, compared with plain SQL and with single posts."""

import time
from typing import Final

from benchmarks.bench import Bench, Candidate
from benchmarks.parts.append import unnest_turn
from benchmarks.process import Process
from benchmarks.services import posting

TITLE: Final = "POST batches of 1000"
_BATCH: Final = 1000
_CONNECTIONS: Final = 4
_SINGLE_CONNECTIONS: Final = 128


async def run(bench: Bench) -> None:
    """One API; the lower bound inserts the same events, 1,000 per statement."""
    async with (
        bench.server() as server,
        server.database() as data,
        server.database() as bare,
        Process.running(
            bench.home, "-m", "pulse.cli", "api", settings={"database_url": data.url}
        ) as pulse,
    ):
        batches = posting(
            bench,
            f"{pulse.url}/internal/orders/batch",
            "post_batches.lua",
            connections=_CONNECTIONS,
            orders_per_request=_BATCH,
        )
        single = posting(
            bench,
            f"{pulse.url}/internal/orders",
            "post_orders.lua",
            connections=_SINGLE_CONNECTIONS,
        )
        await bench.compare(
            f"{_CONNECTIONS} connections",
            "orders/s",
            [
                Candidate("Pulse", batches),
                Candidate("unnest, 1000 rows", unnest_turn(bench, bare, _BATCH)),
                Candidate("single POSTs, 128 connections", single),
            ],
        )
        begun = time.perf_counter()
        await data.until(
            "SELECT (SELECT max(notification_id) FROM stored_events) <="
            " (SELECT notification_id FROM notification_tracking"
            "   WHERE application_name = 'order_queue')",
            seconds=300,
        )
        bench.fact("time to project after the last batch", time.perf_counter() - begun, "s")

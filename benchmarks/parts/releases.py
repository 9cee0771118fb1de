"""Releases of slices at a steady load: lateness, cost of an order, sustained rate."""

import asyncio
import time
from typing import Final
from uuid import uuid4

import aiohttp
import msgspec

from benchmarks.bench import Bench
from benchmarks.database import Database, Server
from benchmarks.process import Process

TITLE: Final = "releases: lateness and cost at a steady load, windows of one minute"

_WINDOW_SECONDS: Final = 60.0
_MEASURED_SECONDS: Final = 30.0
_BATCHES_PER_SECOND: Final = 20

_WAL: Final = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8"
_END: Final = "SELECT COALESCE(max(notification_id), 0)::float8 FROM stored_events"
_EVENTS: Final = """
SELECT count(*)::float8 FROM stored_events
 WHERE notification_id > %s AND notification_id <= %s AND topic = %s"""
_LATENESS: Final = """
SELECT count(*)::float8,
       percentile_cont(ARRAY[0.5, 0.99, 1]) WITHIN GROUP (ORDER BY extract(epoch FROM
           e.recorded_at - GREATEST((s ->> 'scheduled_at')::timestamptz, split.recorded_at)))
  FROM stored_events e
 CROSS JOIN json_array_elements(convert_from(e.state, 'UTF8')::json -> 'slices') s
  JOIN stored_events split
    ON split.originator_id = e.originator_id AND split.originator_version = 2
 WHERE e.notification_id > %s AND e.notification_id <= %s
   AND e.topic = 'pulse.domain:SlicesReleased'"""
_CREATED: Final = "pulse.domain:OrderCreated"
_EXPIRED: Final = "pulse.domain:SlicesExpired"


class Load(msgspec.Struct, frozen=True):
    """Orders posted at a steady rate, in batches.

    After the first window, orders per second times slices is the number of slices due per second.
    """

    orders_per_second: int
    num_splits: int
    release: bool = True

    @property
    def name(self) -> str:
        """The due slices per second, for the report."""
        due = self.orders_per_second * self.num_splits
        return f"{due:,} slices/s ({self.orders_per_second:,} orders/s of {self.num_splits})"


_LOADS: Final = (Load(20, 5), Load(200, 5), Load(10, 100), Load(1_000, 5), Load(2_000, 5))
_WITHOUT: Final = Load(2_000, 5, release=False)
_SMOKE: Final = (Load(20, 5),)


async def run(bench: Bench) -> None:
    """Measure `pulse up` with default settings in the half minute after the first window."""
    async with bench.server() as server:
        for load in _SMOKE if bench.smoke else (*_LOADS, _WITHOUT):
            async with (
                server.database() as database,
                Process.running(
                    bench.home,
                    *("-m", "pulse.cli", "up"),
                    settings={"database_url": database.url, "release_slices": load.release},
                ) as pulse,
            ):
                await _measure(bench, server, database, pulse, load)


async def _measure(
    bench: Bench, server: Server, database: Database, pulse: Process, load: Load
) -> None:
    posting = asyncio.create_task(_post(f"{pulse.url}/pulse/internal/orders/batch", load))
    try:
        await asyncio.sleep(bench.sized(int(_WINDOW_SECONDS), 1))
        begin = time.perf_counter()
        after, wal = await database.figure(_END), await database.figure(_WAL)
        own, postgres = pulse.cpu_seconds, server.cpu_seconds
        await asyncio.sleep(bench.sized(int(_MEASURED_SECONDS), 2))
        own, postgres = pulse.cpu_seconds - own, server.cpu_seconds - postgres
        until, wal = await database.figure(_END), await database.figure(_WAL) - wal
        seconds = time.perf_counter() - begin
    finally:
        posting.cancel()
        await asyncio.gather(posting, return_exceptions=True)
    name = load.name if load.release else f"{load.name} without releases"
    created = await database.figure(_EVENTS, int(after), int(until), _CREATED)
    expired = await database.figure(_EVENTS, int(after), int(until), _EXPIRED)
    ((released, quantiles),) = await database.rows(_LATENESS, int(after), int(until))
    bench.fact(f"{name}: accepted", created / seconds, "orders/s")
    if load.release:
        p50, p99, most = quantiles
        bench.fact(f"{name}: released", released / seconds, "slices/s")
        bench.fact(f"{name}: lateness, p50", 1000 * p50, "ms")
        bench.fact(f"{name}: lateness, p99", 1000 * p99, "ms")
        bench.fact(f"{name}: lateness, maximum", 1000 * most, "ms")
        bench.fact(f"{name}: orders with expired slices", expired, "")
    bench.fact(f"{name}: events per order", (until - after) / created, "")
    bench.fact(f"{name}: WAL per order", wal / created, "B")
    bench.fact(f"{name}: CPU time of Pulse per order", 1000 * own / created, "ms")
    bench.fact(f"{name}: CPU time of Postgres per order", 1000 * postgres / created, "ms")


async def _post(url: str, load: Load) -> None:
    """Post batches at the load's rate, open loop, until cancelled."""
    salt, size = uuid4().hex[:8], max(1, load.orders_per_second // _BATCHES_PER_SECOND)
    loop = asyncio.get_running_loop()
    sent, begin = 0, loop.time()
    async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as tasks:
        while True:
            await asyncio.sleep(max(0.0, begin + sent / load.orders_per_second - loop.time()))
            orders = [_order(f"{salt}-{sent + n}", load.num_splits) for n in range(size)]
            sent += size
            tasks.create_task(_post_batch(http, url, msgspec.json.encode(orders)))


async def _post_batch(http: aiohttp.ClientSession, url: str, body: bytes) -> None:
    async with http.post(url, data=body, headers={"Content-Type": "application/json"}) as answer:
        answer.raise_for_status()
        await answer.read()


def _order(key: str, num_splits: int) -> dict[str, object]:
    return {
        "order_unique_key": key,
        "instrument": "NSE:RELIANCE",
        "side": "BUY",
        "total_quantity": 100 * num_splits,
        "split_config": {"num_splits": num_splits, "duration_minutes": 1},
    }

"""The cost of an order and of an idle Pulse: WAL, disk, CPU time, statements."""

import asyncio
from typing import Final, LiteralString

from benchmarks.bench import Bench
from benchmarks.database import Database, Server
from benchmarks.generators import wrk
from benchmarks.process import Process
from benchmarks.services import plain_service

TITLE: Final = "cost of an order of 5 slices until its split, and of an idle Pulse"
_CONNECTIONS: Final = 32
_IDLE_SECONDS: Final = 20.0
_WAL: Final = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8"
_DISK: Final = "SELECT pg_database_size(current_database())::float8"
_STATEMENTS: Final = "SELECT sum(calls)::float8 FROM pg_stat_statements"
_ROW: Final = "SELECT avg(pg_column_size(s.*))::float8 FROM stored_events s"


async def run(bench: Bench) -> None:
    """Post for two turns, wait until all orders are COMPLETED, and divide by their number."""
    preloaded = {"shared_preload_libraries": "pg_stat_statements"}
    async with bench.server(**preloaded) as server:
        async with server.database() as data:
            settings = {"database_url": data.url, "release_slices": False}
            up = Process.running(bench.home, "-m", "pulse.cli", "up", settings=settings)
            async with up as process:
                await _measure_orders(
                    bench,
                    server,
                    data,
                    "Pulse",
                    url=f"{process.url}/pulse",
                    processes=[process],
                    count="SELECT count(*) FROM order_queue",
                    done="SELECT NOT EXISTS (SELECT FROM pending_orders) AND"
                    " (SELECT max(notification_id) FROM stored_events) <="
                    " (SELECT max(notification_id) FROM notification_tracking"
                    "   WHERE application_name = 'order_queue')",
                )
                bench.fact("mean row size of stored_events", await data.figure(_ROW), "B")
                await _measure_idle(bench, server, data, process)
        await _measure_plain_service(bench, server)


async def _measure_plain_service(bench: Bench, server: Server) -> None:
    async with plain_service(bench, server) as plain:
        await _measure_orders(
            bench,
            server,
            plain.database,
            "plain service",
            url=plain.service.url,
            processes=[plain.service, plain.worker],
            count="SELECT count(*) FROM plain_orders",
            done="SELECT NOT EXISTS (SELECT FROM plain_orders WHERE state = 'PENDING')",
        )


async def _measure_orders(
    bench: Bench,
    server: Server,
    data: Database,
    name: str,
    *,
    url: str,
    processes: list[Process],
    count: LiteralString,
    done: LiteralString,
) -> None:
    await data.rows("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
    wal, disk, statements = [await data.figure(sql) for sql in (_WAL, _DISK, _STATEMENTS)]
    cpu, backends = sum(p.cpu_seconds for p in processes), server.cpu_seconds
    await wrk(
        f"{url}/internal/orders",
        "post_orders.lua",
        connections=_CONNECTIONS,
        seconds=bench.turn_seconds * 2,
    )
    await data.until(done, seconds=300)
    orders = await data.figure(count)
    bench.fact(f"{name}: WAL per order", (await data.figure(_WAL) - wal) / orders, "B")
    bench.fact(f"{name}: disk per order", (await data.figure(_DISK) - disk) / orders, "B")
    bench.fact(
        f"{name}: statements per order", (await data.figure(_STATEMENTS) - statements) / orders, ""
    )
    used = sum(p.cpu_seconds for p in processes) - cpu
    bench.fact(f"{name}: CPU time of its processes per order", 1000 * used / orders, "ms")
    used = server.cpu_seconds - backends
    bench.fact(f"{name}: CPU time of Postgres per order", 1000 * used / orders, "ms")


async def _measure_idle(bench: Bench, server: Server, data: Database, process: Process) -> None:
    statements, cpu, backends = (
        await data.figure(_STATEMENTS),
        process.cpu_seconds,
        server.cpu_seconds,
    )
    seconds = bench.sized(int(_IDLE_SECONDS), 2)
    await asyncio.sleep(seconds)
    calls = await data.figure(_STATEMENTS) - statements
    bench.fact("idle `pulse up`: statements", calls / seconds, "/s")
    bench.fact(
        "idle `pulse up`: CPU time", 100 * (process.cpu_seconds - cpu) / seconds, "% of a core"
    )
    bench.fact(
        "idle `pulse up`: CPU time of Postgres",
        100 * (server.cpu_seconds - backends) / seconds,
        "% of a core",
    )

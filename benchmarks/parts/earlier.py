"""Append, post and read: this checkout compared with an earlier one, on separate databases."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import msgspec

from benchmarks.bench import Bench, Candidate
from benchmarks.checkout import EARLIER, THIS, Checkout
from benchmarks.comparison import Comparison
from benchmarks.database import Database, Server
from benchmarks.generators import wrk
from benchmarks.process import Process

TITLE: Final = f"this commit compared with {EARLIER}: append, POST, reads"
_ORDERS: Final = 20_000
_ORDERS_READ: Final = 2_000
_PAGE: Final = 100
_SECONDS: Final = 600.0
_POST: Final = "/internal/orders"

_APPEND: Final = """
import asyncio, sys, types
from benchmarks.database import Database
from benchmarks.parts.append import appending

async def main(conninfo, callers, seconds):
    bench = types.SimpleNamespace(turn_seconds=float(seconds))
    async with appending(bench, Database(conninfo), int(callers)) as turn:
        await turn()
        print(await turn())

asyncio.run(main(*sys.argv[1:]))
"""
"""Run by each checkout with its own code: one turn to warm up, and one that counts."""


class _Side(msgspec.Struct, frozen=True):
    checkout: Checkout
    database: Database
    api: Process


async def run(bench: Bench) -> None:
    """Both APIs run throughout; one at a time is measured."""
    before = await asyncio.to_thread(Checkout.of_commit, EARLIER)
    async with bench.server() as server, AsyncExitStack() as stack:
        sides = [
            await stack.enter_async_context(_serving(bench, server, checkout))
            for checkout in (THIS, before)
        ]
        await _compare(bench, "append, 64 callers", sides, _appends, 0.95, unit="events/s")
        for connections in (32, 128):
            posts = _posts(connections)
            name = f"POST, {connections} connections"
            await _compare(bench, name, sides, posts, 0.95, unit="orders/s")
        for side in sides:
            await _fill(bench, side)
        for name, path, goal in (
            ("one order", "/internal/orders/{}", 0.85),
            (f"a page of {_PAGE}", f"/internal/orders?limit={_PAGE}", 0.95),
        ):
            reads = _reads(path)
            await _compare(bench, f"{name}, 32 connections", sides, reads, goal, unit="requests/s")


TurnOf = Callable[[Bench, _Side], Awaitable[float]]


async def _compare(
    bench: Bench, setting: str, sides: list[_Side], turn: TurnOf, goal: float, *, unit: str
) -> None:
    """Compare the rates, and the API's CPU time per request."""
    costs: dict[str, list[float]] = {side.checkout.name: [] for side in sides}

    def turn_of(side: _Side) -> Callable[[], Awaitable[float]]:
        async def one() -> float:
            before = side.api.cpu_seconds
            rate = await turn(bench, side)
            used = side.api.cpu_seconds - before
            costs[side.checkout.name].append(1000 * used / (rate * bench.turn_seconds))
            return rate

        return one

    candidates = [
        Candidate(side.checkout.name, turn_of(side), None if side is sides[0] else goal)
        for side in sides
    ]
    await bench.compare(setting, unit, candidates)  # type: ignore[arg-type]
    if turn is not _appends:
        counted = {name: found[-bench.rounds :] for name, found in costs.items()}
        bench.add(Comparison.of(f"{setting}, CPU time per request", "ms", counted, {}))


@asynccontextmanager
async def _serving(bench: Bench, server: Server, checkout: Checkout) -> AsyncIterator[_Side]:
    async with server.database(migrated=False) as database:
        settings = {"database_url": database.url}
        command = ("-m", "pulse.cli", "api")
        async with Process.running(
            bench.home, *command, settings=settings, checkout=checkout
        ) as api:
            yield _Side(checkout, database, api)


async def _appends(bench: Bench, side: _Side) -> float:
    process = await asyncio.create_subprocess_exec(
        *(side.checkout.python, "-c", _APPEND, side.database.conninfo, "64"),
        str(bench.turn_seconds),
        cwd=side.checkout.root,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"appending failed:\n{errors.decode()}")
    return float(output)


def _posts(connections: int) -> TurnOf:
    async def turn(bench: Bench, side: _Side) -> float:
        load = await wrk(
            side.api.url + _POST,
            "post_orders.lua",
            connections=connections,
            seconds=bench.turn_seconds,
        )
        return load.rate

    return turn


def _reads(path: str) -> TurnOf:
    async def turn(bench: Bench, side: _Side) -> float:
        paths = bench.home / "paths"
        paths.write_text("\n".join(await _paths(path, side.database)) + "\n")
        load = await wrk(
            side.api.url, "get_each.lua", str(paths), connections=32, seconds=bench.turn_seconds
        )
        return load.rate

    return turn


async def _paths(path: str, database: Database) -> list[str]:
    rows = await database.rows(
        "SELECT order_id FROM order_slices GROUP BY 1 LIMIT %s", _ORDERS_READ
    )
    return [path.format(order) for (order,) in rows]


async def _fill(bench: Bench, side: _Side) -> None:
    """Split posted orders with the checkout's own workers, until 20,000 are COMPLETED."""
    settings = {"database_url": side.database.url, "batch_size": "500"}
    async with Process.running(
        bench.home, "-m", "pulse.background", settings=settings, checkout=side.checkout, ready=""
    ):
        await side.database.until(
            "SELECT count(*) >= %s OR NOT EXISTS (SELECT FROM order_queue_status"
            " WHERE order_queue_status IN ('PENDING', 'IN_PROGRESS')) FROM order_queue_status"
            " WHERE order_queue_status = 'COMPLETED'",
            bench.sized(_ORDERS, 500),
            seconds=_SECONDS,
        )
    await side.database.rows("VACUUM ANALYZE")

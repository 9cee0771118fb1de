"""Append, POST, drain and reads as the log grows."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from eventsourcing.persistence import StoredEvent

from benchmarks.bench import Bench
from benchmarks.comparison import Comparison, Unit
from benchmarks.database import Database, Server
from benchmarks.generators import wrk
from benchmarks.parts.append import appending
from benchmarks.parts.reads import load_orders
from benchmarks.process import Process
from benchmarks.sample import fill_log, new_creation

TITLE: Final = "growth: 0, 1 and 10 million stored events"
_EVENTS: Final = (0, 1_000_000, 10_000_000)
_ORDERS_READ: Final = 2_000
_CONNECTIONS: Final = 32
_CALLERS: Final = 64
_DRAINED: Final = 10_000
_SECONDS: Final = 300.0
_TURNS_UNTIL_STEADY: Final = 3
_AT_LEAST: Final = 0.9
_UNITS: Final[dict[str, Unit]] = {
    "append after a checkpoint": "events/s",
    "append": "events/s",
    "POST": "orders/s",
    "read of an order": "requests/s",
    "drain": "orders/s",
}

_NOTHING_LEFT: Final = """
SELECT NOT EXISTS (SELECT FROM pending_orders)
   AND t.notification_id >= (SELECT COALESCE(max(notification_id), 0) FROM stored_events)
  FROM notification_tracking t
 WHERE t.application_name = 'order_queue'"""


async def run(bench: Bench) -> None:
    """Measure each operation on every size before the next operation.

    The databases keep what a round appends, except the empty one, which is new in each round.
    Creating it causes a checkpoint, after which the first write to a page logs a full-page image.
    """
    empty, *sizes = (bench.sized(events, events // 1000) for events in _EVENTS)
    async with bench.server(shared_buffers="2GB") as server, AsyncExitStack() as stack:
        loaded = {
            events: await stack.enter_async_context(_loaded(bench, server, events))
            for events in sizes
        }
        figures: dict[str, dict[int, list[float]]] = {}
        for number in range(bench.rounds):
            async with _loaded(bench, server, empty) as new:
                databases = list({empty: new, **loaded}.items())
                first = number % len(databases)
                for operation in _OPERATIONS:
                    for events, database in [*databases[first:], *databases[:first]]:
                        for name, figure in (await operation(bench, database)).items():
                            figures.setdefault(name, {}).setdefault(events, []).append(figure)
            bench.log("; ".join(f"{n}: {_last(own)}" for n, own in figures.items()))
    _compare(bench, figures, empty, sizes)


def _last(figures: dict[int, list[float]]) -> str:
    return ", ".join(f"{own[-1]:,.0f} at {events:,}" for events, own in sorted(figures.items()))


@asynccontextmanager
async def _loaded(bench: Bench, server: Server, events: int) -> AsyncIterator[Database]:
    """A database with that many events, at least as many as the reads need."""
    async with server.database() as database:
        begun = time.perf_counter()
        await load_orders(bench, database, max(events // 2, _ORDERS_READ // 2))
        bench.log(f"{events:,} events loaded in {time.perf_counter() - begun:.0f} s")
        yield database


def _compare(
    bench: Bench, figures: dict[str, dict[int, list[float]]], empty: int, sizes: list[int]
) -> None:
    for name, by_size in figures.items():
        for events in sizes:
            names = {f"{events:,} events": by_size[events], "empty log": by_size[empty]}
            setting = f"{name} at {events:,} events"
            bench.add(Comparison.of(setting, _UNITS[name], names, {"empty log": _AT_LEAST}))


async def _appended(bench: Bench, database: Database) -> dict[str, float]:
    """Appends right after a checkpoint, and again when most pages have been written since.

    The events have a topic that Pulse ignores, so that they add no backlog.
    """
    async with appending(bench, database, _CALLERS, _foreign) as append:
        after_checkpoint = await append()
        for _ in range(bench.sized(_TURNS_UNTIL_STEADY, 1)):
            steady = await append()
    return {"append after a checkpoint": after_checkpoint, "append": steady}


def _foreign() -> StoredEvent:
    creation = new_creation()
    return StoredEvent(creation.originator_id, 1, "benchmark:Foreign", creation.state)


async def _posted_and_read(bench: Bench, database: Database) -> dict[str, float]:
    settings = {"database_url": database.url}
    async with Process.running(bench.home, "-m", "pulse.cli", "api", settings=settings) as api:
        ids = [
            str(row[0])
            for row in await database.rows(
                "SELECT order_id FROM order_queue ORDER BY order_id LIMIT %s", _ORDERS_READ
            )
        ]
        paths = bench.home / "growth-paths"
        paths.write_text("".join(f"/internal/orders/{order}\n" for order in ids))
        posts = await wrk(
            f"{api.url}/internal/orders",
            "post_orders.lua",
            connections=_CONNECTIONS,
            seconds=bench.turn_seconds,
        )
        reads = await wrk(
            api.url,
            "get_each.lua",
            str(paths),
            connections=_CONNECTIONS,
            seconds=bench.turn_seconds,
        )
    return {"POST": posts.rate, "read of an order": reads.rate}


async def _drained(bench: Bench, database: Database) -> dict[str, float]:
    """Drain a backlog of orders with 5 slices; the orders posted before are drained first."""
    settings = {"database_url": database.url, "batch_size": 500, "log_level": "info"}
    async with Process.running(
        bench.home, "-m", "pulse.cli", "background", settings=settings, ready="workers.started"
    ):
        await database.until(_NOTHING_LEFT, seconds=_SECONDS)
        orders = bench.sized(_DRAINED, 100)
        await fill_log(database, orders, num_splits=5, stage="created")
        begun = time.perf_counter()
        await database.until(_NOTHING_LEFT, seconds=_SECONDS)
        return {"drain": orders / (time.perf_counter() - begun)}


_OPERATIONS: Final = (_appended, _posted_and_read, _drained)

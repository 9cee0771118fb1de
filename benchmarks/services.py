"""The plain service on a new database, and turns of posts by wrk."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec

from benchmarks.bench import Bench
from benchmarks.database import Database, Server
from benchmarks.generators import wrk
from benchmarks.peers import plain
from benchmarks.process import Process


class PlainService(msgspec.Struct, frozen=True):
    """The plain service and its worker, on one database."""

    database: Database
    service: Process
    worker: Process


@asynccontextmanager
async def plain_service(bench: Bench, server: Server) -> AsyncIterator[PlainService]:
    """A running plain service and its worker."""
    async with server.database(migrated=False) as database:
        await database.rows(plain.CREATE)
        settings = {"database_url": database.url}
        run = Process.running
        service = run(bench.home, "-m", "benchmarks.peers.plain", settings=settings)
        worker = run(
            bench.home, "-m", "benchmarks.peers.plain_worker", settings=settings, ready="ready"
        )
        async with service as serving, worker as splitting:
            yield PlainService(database, serving, splitting)


def posting(
    bench: Bench, url: str, script: str, *, connections: int, orders_per_request: int = 1
) -> Callable[[], Awaitable[float]]:
    """A turn of posts by a wrk script; returns the orders accepted per second."""

    async def turn() -> float:
        load = await wrk(url, script, connections=connections, seconds=bench.turn_seconds)
        return load.rate * orders_per_request

    return turn

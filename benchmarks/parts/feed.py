"""The whole log over HTTP, compared with COPY of the same rows, and queries about the past."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from statistics import median
from typing import Final
from urllib.parse import urlsplit

from benchmarks.bench import Bench, Candidate
from benchmarks.database import Database
from benchmarks.parts.rebuild import PROJECTED
from benchmarks.process import Process
from benchmarks.sample import fill_log
from pulse.eventstore import EventMapper
from pulse.postgres import Database as PulseDatabase
from pulse.projections.position import PROJECTION_NAME
from pulse.projections.queue_history import HistorySummary

TITLE: Final = "the whole log of 1,000,000 events as NDJSON and CSV, and the past"
_EVENTS: Final = 1_000_000
_SPLITS: Final = 5
_EVENTS_PER_ORDER: Final = 2 + _SPLITS
_AT_LEAST: Final = 0.25
_MAX_MEMORY_MIB: Final = 200
_READ_BYTES: Final = 1 << 20
_MILLISECONDS: Final = 1000
_SAMPLE_SECONDS: Final = 0.05
_COPY: Final = """
COPY (SELECT notification_id, originator_id, originator_version, topic, state, recorded_at
        FROM stored_events ORDER BY notification_id) TO STDOUT"""
_MIDDLE: Final = """
SELECT notification_id, originator_id, recorded_at::text
  FROM stored_events WHERE notification_id = %s"""


async def run(bench: Bench) -> None:
    """Measure one reader of one API process. Each turn reads the whole log."""
    orders = bench.sized(_EVENTS, 3_500) // _EVENTS_PER_ORDER
    events = orders * _EVENTS_PER_ORDER
    async with bench.server() as server, server.database() as database:
        bench.log(f"loading {events:,} events")
        await fill_log(database, orders, num_splits=_SPLITS, stage="released", apart=True)
        await database.rows(PROJECTED, PROJECTION_NAME)
        await database.rows("VACUUM ANALYZE stored_events")
        settings = {"database_url": database.url}
        async with Process.running(bench.home, "-m", "pulse.cli", "api", settings=settings) as api:
            peaks: list[float] = []
            for name, headers in (
                ("NDJSON", {"Accept": "application/x-ndjson"}),
                ("CSV", {"Accept": "text/csv"}),
                ("NDJSON, gzip", {"Accept": "application/x-ndjson", "Accept-Encoding": "gzip"}),
            ):
                await bench.compare(
                    f"{events:,} events as {name}",
                    "events/s",
                    [
                        Candidate("Pulse", _reading(api, headers, events, peaks)),
                        Candidate("COPY TO STDOUT", _copying(database, events), _AT_LEAST),
                    ],
                    rounds=min(bench.rounds, 3),
                )
            bench.fact(
                f"peak memory of the API meanwhile (goal: below {_MAX_MEMORY_MIB})",
                max(peaks),
                "MiB",
            )
            await _measure_the_past(bench, database, api, events)


def _reading(
    api: Process, headers: dict[str, str], events: int, peaks: list[float]
) -> Callable[[], Awaitable[float]]:
    """Turns that read the response from the socket, without parsing it."""

    async def turn() -> float:
        begun = sampled_at = time.perf_counter()
        last = b""
        async for piece in _received(api, "/internal/events", headers):
            last = piece
            now = time.perf_counter()
            if now - sampled_at > _SAMPLE_SECONDS:
                peaks.append(api.memory_mib)
                sampled_at = now
        if not last.endswith(b"0\r\n\r\n"):
            raise RuntimeError(f"the response is incomplete: {last[-200:]!r}")
        peaks.append(api.memory_mib)
        return events / (time.perf_counter() - begun)

    return turn


async def _received(api: Process, path: str, headers: dict[str, str]) -> AsyncIterator[bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(api.url).port)
    lines = [f"{name}: {value}" for name, value in headers.items()]
    request = [f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close", *lines, "", ""]
    writer.write("\r\n".join(request).encode())
    while piece := await reader.read(_READ_BYTES):
        yield piece
    writer.close()


def _copying(database: Database, events: int) -> Callable[[], Awaitable[float]]:
    async def turn() -> float:
        async with await database.connect() as connection:
            begun = time.perf_counter()
            async with connection.cursor().copy(_COPY) as copy:
                async for _ in copy:
                    pass
            return events / (time.perf_counter() - begun)

    return turn


async def _measure_the_past(bench: Bench, database: Database, api: Process, events: int) -> None:
    """The median latency of each query, in sequence, after the history is summed up."""
    pulse = PulseDatabase(database.conninfo, pool_size=2)
    await pulse.open()
    try:
        begun = time.perf_counter()
        await HistorySummary(pulse, EventMapper()).run_until_done()
        rate = events / (time.perf_counter() - begun)
        bench.fact("windows of the log summed up", rate, "events/s")
    finally:
        await pulse.close()
    ((position, order_id, at),) = await database.rows(_MIDDLE, events // 2 + 1)
    moment = at.replace(" ", "T").replace("+00", "Z")
    for name, path in (
        ("an order as of a position", f"/internal/orders/{order_id}?position={position}"),
        ("an order as of a moment", f"/internal/orders/{order_id}?at={moment}"),
        ("the queue as of a position", f"/internal/queue?position={position}"),
        ("the queue as of a moment", f"/internal/queue?at={moment}"),
    ):
        figures = []
        for _ in range(21):
            begun = time.perf_counter()
            async for _ in _received(api, path, {}):
                pass
            figures.append((time.perf_counter() - begun) * _MILLISECONDS)
        bench.fact(name, median(figures), "ms")

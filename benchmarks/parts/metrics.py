"""POST with metrics, and with metrics and request lines, compared with POST with neither."""

import asyncio
import statistics
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Final

import msgspec
import psutil

from benchmarks.bench import Bench
from benchmarks.comparison import Comparison
from benchmarks.database import Database, Server
from benchmarks.generators import wrk
from benchmarks.process import Process
from pulse.http.asgi import TRACE_KEY
from pulse.http.request_log import RequestLine, RequestLog, render_json
from pulse.http.root import RequestObserver
from pulse.http.routes import Routes
from pulse.http.tracing import trace_of

TITLE: Final = "POST with metrics and request lines, compared with neither"

_CONNECTIONS: Final = 32
_NEITHER: Final = "neither"
_OFF: Final = {"metrics": "false", "log_requests": "off"}
_METRICS: Final = {"metrics": "true", "log_requests": "off"}
_LINES: Final = {"metrics": "true", "log_requests": "all"}
_PATH: Final = "/internal/orders"
_REQUESTS_PER_BATCH: Final = 100
_TURNS_PER_LOAD: Final = 5
_SMOKE_SECONDS: Final = 3.0
"""On a busy machine, one second may be too short for a single answer at low priority."""
_GAUGES_SESSION: Final = (
    "SELECT pid FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name LIKE 'pulse:monitor@%'"
)


class _Load(msgspec.Struct, frozen=True):
    """What one side did under load. The gauges' CPU time is that of their session."""

    rate: float
    cpu_ms_per_request: float
    gauges_cpu_seconds: float


async def run(bench: Bench) -> None:
    """Load both sides at the same time, in new processes and on new databases in each round.

    Measured in turns, two equal sides differ by a sixth from round to round on a virtual machine.
    Two processes of the same code differ by a few per cent for as long as they run.
    """
    async with bench.server() as server:
        post_us = await _compare(bench, server, "metrics", _METRICS, 0.97)
        await _compare(bench, server, "metrics and request lines", _LINES, 0.9)
    metrics_us = _observer_us(bench, log=False)
    with_line_us = _observer_us(bench, log=True)
    bench.fact("request metrics without the request: CPU time", metrics_us, "µs")
    bench.fact("request metrics and line without the request: CPU time", with_line_us, "µs")
    bench.fact("request metrics, as a share of a POST's CPU time", 100 * metrics_us / post_us, "%")
    share = 100 * with_line_us / post_us
    bench.fact("request metrics and line, as a share of a POST's CPU time", share, "%")


def _observer_us(bench: Bench, *, log: bool) -> float:
    """The CPU time per request that the observer alone takes, in µs.

    On a busy machine it is smaller than the noise between two runs of whole requests.
    """
    lines: list[RequestLine] = []
    observer = RequestObserver(measure=True, log=RequestLog(lines.append, 1.0) if log else None)
    observer.routes = {"": Routes([_PATH, "/internal/orders/{order_id:uuid}"])}
    scope = {"path": _PATH, "client": ("127.0.0.1", 1), TRACE_KEY: trace_of("POST", b"/", "", {})}
    batches = bench.sized(500, 5)
    figures = []
    for _ in range(bench.rounds):
        begun = time.process_time()
        for _ in range(batches):
            for _ in range(_REQUESTS_PER_BATCH):
                observer.observe("POST", "", scope, 201, 0.004, None)
            if log:
                render_json(lines)
                lines.clear()
        figures.append((time.process_time() - begun) / (batches * _REQUESTS_PER_BATCH))
    return 1e6 * statistics.median(figures)


async def _compare(
    bench: Bench, server: Server, name: str, settings: Mapping[str, str], goal: float
) -> float:
    """Compare the rates and the API's CPU time per request.

    The ratio does not show the CPU time that Postgres takes for the gauges of the whole database,
    because it slows both sides alike. So that time is reported as a fact. It does not include the
    counts of orders, which use the pool.

    Returns the API's CPU time per request without metrics and request lines, in µs.
    """
    subject = f"with {name}"
    sides = [(subject, settings), (_NEITHER, _OFF)]
    loads: dict[str, list[_Load]] = {side: [] for side, _ in sides}
    busy_seconds = 0.0
    for number in range(bench.rounds):
        async with AsyncExitStack() as stack:
            running = {}
            for side, its in sides[:: -1 if number % 2 else 1]:
                database = await stack.enter_async_context(server.database(migrated=False))
                api = Process.running(
                    bench.home,
                    *("-m", "pulse.cli", "api"),
                    settings={"database_url": database.url, "log_level": "info", **its},
                )
                running[side] = (await stack.enter_async_context(api), database)
            await asyncio.gather(*(_load(bench, *each, turns=1) for each in running.values()))
            before = _busy_seconds()
            found = await asyncio.gather(*(_load(bench, *each) for each in running.values()))
            busy_seconds += _busy_seconds() - before
        for side, load in zip(running, found, strict=True):
            loads[side].append(load)
        ours, theirs = (loads[side][-1].rate for side, _ in sides)
        bench.log(f"{name}: {ours:,.0f}, {_NEITHER} {theirs:,.0f} orders/s")
    setting = f"POST, {_CONNECTIONS} connections each, {name}"
    rates = {side: [load.rate for load in own] for side, own in loads.items()}
    costs = {side: [load.cpu_ms_per_request for load in own] for side, own in loads.items()}
    bench.add(Comparison.of(setting, "orders/s", rates, {_NEITHER: goal}))
    bench.add(Comparison.of(f"{setting}, CPU time per request", "ms", costs, {}))
    # Only the subject has gauges, so their time is compared with half of the busy time.
    of_gauges = sum(load.gauges_cpu_seconds for load in loads[subject])
    share = 100 * of_gauges / (busy_seconds / len(sides))
    fact = f"{name}: session of the gauges in Postgres, share of one side's CPU time"
    bench.fact(fact, share, "%")
    return 1000 * statistics.median(costs[_NEITHER])


async def _load(
    bench: Bench, api: Process, database: Database, turns: int = _TURNS_PER_LOAD
) -> _Load:
    sessions = [psutil.Process(pid) for (pid,) in await database.rows(_GAUGES_SESSION)]
    before, gauges_before = api.cpu_seconds, _cpu_seconds(sessions)
    seconds = _SMOKE_SECONDS if bench.smoke else bench.turn_seconds * turns
    load = await wrk(api.url + _PATH, "post_orders.lua", connections=_CONNECTIONS, seconds=seconds)
    cpu_ms = 1000 * (api.cpu_seconds - before) / load.requests
    return _Load(load.rate, cpu_ms, _cpu_seconds(sessions) - gauges_before)


def _cpu_seconds(processes: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return float(sum(each.user + each.system for each in times))


def _busy_seconds() -> float:
    """The CPU time of all processes of this machine since it started."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)

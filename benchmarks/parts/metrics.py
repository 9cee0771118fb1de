"""POST with metrics, and with metrics and request lines, compared with POST without both."""

import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Final

import msgspec

from benchmarks.bench import Bench, Candidate
from benchmarks.comparison import Comparison
from benchmarks.generators import wrk
from benchmarks.process import Process
from pulse.http.asgi import TRACE_KEY
from pulse.http.request_log import RequestLine, RequestLog, render_json
from pulse.http.root import RequestObserver
from pulse.http.routes import Routes
from pulse.http.tracing import trace_of

TITLE: Final = "POST with metrics and request lines, compared with neither"

_CONNECTIONS: Final = 64
_OFF: Final = {"metrics": "false", "log_requests": "off"}
_METRICS: Final = {"metrics": "true", "log_requests": "off"}
_LINES: Final = {"metrics": "true", "log_requests": "all"}
_PATH: Final = "/internal/orders"
_REQUESTS_PER_BATCH: Final = 100


class _Side(msgspec.Struct, frozen=True):
    name: str
    api: Process


async def run(bench: Bench) -> None:
    """All APIs run throughout, each on its own database; one at a time is measured."""
    async with bench.server() as server, AsyncExitStack() as stack:

        async def serving(name: str, settings: Mapping[str, str]) -> _Side:
            database = await stack.enter_async_context(server.database(migrated=False))
            api = await stack.enter_async_context(
                Process.running(
                    bench.home,
                    *("-m", "pulse.cli", "api"),
                    settings={"database_url": database.url, "log_level": "info", **settings},
                )
            )
            return _Side(name, api)

        off = await serving("neither", _OFF)
        measured = await serving("with metrics", _METRICS)
        logged = await serving("with metrics and request lines", _LINES)
        post_us = await _compare(bench, "metrics", measured, off, 0.97)
        await _compare(bench, "metrics and request lines", logged, off, 0.9)
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


async def _compare(bench: Bench, setting: str, subject: _Side, off: _Side, goal: float) -> float:
    """Compare the rates and the API's CPU time per request; returns the CPU time of `off` in µs."""
    costs: dict[str, list[float]] = {subject.name: [], off.name: []}

    def turn_of(side: _Side) -> Callable[[], Awaitable[float]]:
        async def one() -> float:
            before = side.api.cpu_seconds
            url = side.api.url + _PATH
            load = await wrk(
                url, "post_orders.lua", connections=_CONNECTIONS, seconds=bench.turn_seconds
            )
            used = side.api.cpu_seconds - before
            costs[side.name].append(1000 * used / load.requests)
            return load.rate

        return one

    name = f"POST, {_CONNECTIONS} connections, {setting}"
    candidates = [
        Candidate(subject.name, turn_of(subject)),
        Candidate(off.name, turn_of(off), goal),
    ]
    await bench.compare(name, "orders/s", candidates)
    counted = {side: found[-bench.rounds :] for side, found in costs.items()}
    bench.add(Comparison.of(f"{name}, CPU time per request", "ms", counted, {}))
    return 1000 * statistics.median(counted[off.name])

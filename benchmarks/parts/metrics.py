"""POST with metrics, and with metrics and request lines, compared with neither."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Final

import msgspec

from benchmarks.bench import Bench, Candidate
from benchmarks.comparison import Comparison
from benchmarks.generators import wrk
from benchmarks.process import Process

TITLE: Final = "POST with metrics and request lines, compared with neither"

_CONNECTIONS: Final = 64
_OFF: Final = {"metrics": "false", "log_requests": "off"}
_METRICS: Final = {"metrics": "true", "log_requests": "off"}
_LINES: Final = {"metrics": "true", "log_requests": "all"}


class _Side(msgspec.Struct, frozen=True):
    name: str
    api: Process


async def run(bench: Bench) -> None:
    """All APIs run all the time, each on its own database; one at a time is measured."""
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
        await _compare(bench, "metrics", measured, off, 0.97)
        await _compare(bench, "metrics and request lines", logged, off, 0.9)


async def _compare(bench: Bench, setting: str, subject: _Side, off: _Side, goal: float) -> None:
    """Compare the rates, and the API's CPU time per request."""
    costs: dict[str, list[float]] = {subject.name: [], off.name: []}

    def turn_of(side: _Side) -> Callable[[], Awaitable[float]]:
        async def one() -> float:
            before = side.api.cpu_seconds
            url = side.api.url + "/internal/orders"
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

"""Posts of one order: Pulse's API compared with itself without storage and the plain service."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from benchmarks.bench import Bench, Candidate
from benchmarks.comparison import Comparison
from benchmarks.database import Server
from benchmarks.generators import LoadResult, wrk
from benchmarks.peers import plain
from benchmarks.process import Process

TITLE: Final = "POST one order, 1 / 32 / 128 connections"
_CONNECTIONS: Final = (128, 32, 1)

Urls = dict[str, str]


async def run(bench: Bench) -> None:
    """All four services run throughout; one at a time is measured."""
    async with bench.server() as server, _serving(bench, server) as urls:
        for connections in _CONNECTIONS[: bench.sized(3, 1)]:
            goals = {"no-op": 0.85, "plain service": 1.5} if connections > 1 else {}
            await _compare(bench, urls, connections, goals)


async def _compare(bench: Bench, urls: Urls, connections: int, goals: dict[str, float]) -> None:
    latencies: dict[str, list[float]] = {name: [] for name in urls}

    def turn_of(name: str) -> Callable[[], Awaitable[float]]:
        async def turn() -> float:
            load = await _post(bench, urls[name], connections)
            latencies[name].append(load.p50_ms)
            return load.rate

        return turn

    setting = f"{connections} connection{'s' * (connections > 1)}"
    candidates = [Candidate(name, turn_of(name), goals.get(name)) for name in urls]
    await bench.compare(setting, "orders/s", candidates)
    if connections == 1:
        timed = {name: found[-bench.rounds :] for name, found in latencies.items()}
        goal = {"plain service": 1 / 1.3}
        bench.add(Comparison.of(f"{setting}, p50", "ms", timed, {**goal}))


async def _post(bench: Bench, url: str, connections: int) -> LoadResult:
    return await wrk(
        f"{url}/internal/orders",
        "post_orders.lua",
        connections=connections,
        seconds=bench.turn_seconds,
    )


@asynccontextmanager
async def _serving(bench: Bench, server: Server) -> AsyncIterator[Urls]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        pulse_data, plain_data = (
            await enter(server.database()),
            await enter(server.database(migrated=False)),
        )
        await plain_data.rows(plain.CREATE)
        run = Process.running
        pulse = run(bench.home, "-m", "pulse.cli", "api", settings={"database_url": pulse_data.url})
        noop = run(bench.home, "-m", "benchmarks.lower_bounds.noop")
        peer = run(
            bench.home, "-m", "benchmarks.peers.plain", settings={"database_url": plain_data.url}
        )
        bare = run(bench.home, "-m", "benchmarks.lower_bounds.bare")
        yield {
            "Pulse": (await enter(pulse)).url,
            "no-op": (await enter(noop)).url,
            "plain service": (await enter(peer)).url,
            "bare ASGI": (await enter(bare)).url,
        }

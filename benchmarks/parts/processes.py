"""`pulse up` with 1, 2 and 4 processes: orders accepted and completed, and CPU time by process."""

import asyncio
import time
from typing import Final

from benchmarks.bench import Bench, Candidate, Turn
from benchmarks.comparison import Comparison
from benchmarks.database import Server
from benchmarks.generators import wrk
from benchmarks.parts.sustained import until_all_finished
from benchmarks.process import Process

TITLE: Final = "processes: `pulse up` with 1, 2 and 4"
_COUNTS: Final = (1, 2, 4)
_CONNECTIONS: Final = 64
_POST_SECONDS: Final = 5.0
_IDLE_SECONDS: Final = 10.0
_SETTLE_SECONDS: Final = 2.0
_MEMORY: Final = "memory"
_COMPLETED: Final = "SELECT count(*) FROM order_queue_status WHERE order_queue_status = 'COMPLETED'"


async def run(bench: Bench) -> None:
    """Each turn has new processes and a new database; it ends when the last order is COMPLETED."""
    accepted: dict[str, list[float]] = {}
    spent: dict[str, dict[str, float]] = {}
    idle: dict[str, dict[str, float]] = {}
    counts = _COUNTS[: bench.sized(3, 2)]
    async with bench.server() as server:
        candidates = [
            Candidate(_name(count), _turns(bench, server, count, accepted, spent, idle))
            for count in counts
        ]
        await bench.compare("until all orders are COMPLETED", "orders/s", candidates, warm=False)
    bench.add(Comparison.of("POST meanwhile", "orders/s", accepted, {}))
    for name, kinds in spent.items():
        for kind, milliseconds in kinds.items():
            bench.fact(f"{name}: CPU time of {kind} per order", milliseconds, "ms")
    for name, kinds in idle.items():
        memory = kinds.pop(_MEMORY)
        for kind, percent in kinds.items():
            bench.fact(f"{name}: CPU time of {kind} while idle", percent, "% of a core")
        bench.fact(f"{name}: memory of all", memory, "MiB")


def _name(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes and 1 of workers"


def _turns(  # noqa: PLR0917 - the results of a turn
    bench: Bench,
    server: Server,
    count: int,
    accepted: dict[str, list[float]],
    spent: dict[str, dict[str, float]],
    idle: dict[str, dict[str, float]],
) -> Turn:
    name = _name(count)

    async def turn() -> float:
        async with (
            server.database(migrated=False) as database,
            Process.running(
                bench.home,
                *("-m", "pulse.cli", "up", "--processes", str(count)),
                settings={"database_url": database.url, "release_slices": False},
                ready="Pulse listens",
            ) as pulse,
        ):
            members, postgres = pulse.cpu_seconds_of_members, server.cpu_seconds
            begun = time.perf_counter()
            load = await wrk(
                f"{pulse.url}/pulse/internal/orders",
                "post_orders.lua",
                connections=_CONNECTIONS,
                seconds=bench.turn_seconds if bench.smoke else _POST_SECONDS,
            )
            await until_all_finished(f"{pulse.url}/pulse/internal/orders")
            taken = time.perf_counter() - begun
            completed = await database.figure(_COMPLETED)
            used = _difference(pulse.cpu_seconds_of_members, members)
            used["Postgres"] = server.cpu_seconds - postgres
            spent[name] = {kind: 1000 * seconds / completed for kind, seconds in used.items()}
            accepted.setdefault(name, []).append(load.rate)
            idle[name] = await _idle(bench, pulse)
            return completed / taken

    return turn


async def _idle(bench: Bench, pulse: Process) -> dict[str, float]:
    """Percent of a core that each kind of process takes without load, and the memory of all."""
    await asyncio.sleep(_SETTLE_SECONDS)
    before = pulse.cpu_seconds_of_members
    seconds = bench.sized(int(_IDLE_SECONDS), 1)
    await asyncio.sleep(seconds)
    used = _difference(pulse.cpu_seconds_of_members, before)
    percents = {kind: 100 * spent / seconds for kind, spent in used.items()}
    return {**percents, _MEMORY: pulse.memory_of_all_mib}


def _difference(after: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    return {kind: spent - before[kind] for kind, spent in after.items()}

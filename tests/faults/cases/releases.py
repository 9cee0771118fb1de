"""The processes with releasers and Postgres are killed while slices are released."""

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from tests.faults.case import Case, CaseRun
from tests.faults.checks import until_quiet, until_settled
from tests.faults.deployment import Deployment
from tests.faults.report import quantile
from tests.faults.server import Server

_ORDERS_PER_SECOND: Final = 8.0
_OPEN_ORDERS: Final = 240
"""Placed before the first fault, so that slices are due all the time."""

_CONCURRENT: Final = 30
_CALLER: Final = {"minutes": (1,), "splits": (5, 20), "abandon_share": 0.0}
_MEANWHILE: Final = timedelta(seconds=0.5)
_BUSY_SECONDS: Final = 30.0
_MAX_RECOVERY_SECONDS: Final = 10.0

_JUST_RELEASED: Final = """
SELECT count(*) FROM stored_events
 WHERE notification_id > (SELECT max(notification_id) - 200 FROM stored_events)
   AND topic = 'pulse.domain:SlicesReleased'
   AND recorded_at > clock_timestamp() - interval '0.2 s'"""

Fault = Callable[[CaseRun, Deployment, Server], Awaitable[None]]


async def run(case_run: CaseRun) -> None:
    """Inject the faults in turn, each as often as the others."""
    recoveries: defaultdict[str, list[float]] = defaultdict(list)
    async with (
        Server.running(case_run.home / "postgres") as server,
        case_run.deployment(
            server=server, apis=2, workers=2, settings={"batch_size": 50}, caller=_CALLER
        ) as deployment,
    ):
        for _ in range(0, _OPEN_ORDERS, _CONCURRENT):
            await asyncio.gather(*(deployment.caller.place() for _ in range(_CONCURRENT)))
        await until_quiet(server.conninfo)
        async with deployment.caller.load(rate=_ORDERS_PER_SECOND):
            for name, fault in itertools.islice(itertools.cycle(_FAULTS.items()), case_run.times):
                await asyncio.sleep(case_run.random.uniform(0.5, 1.5))
                seconds = await _inject(case_run, deployment, server, fault)
                recoveries[name].append(seconds)
                case_run.recovered(seconds)
    for name, own in recoveries.items():
        case_run.fact(
            f"{name}: {len(own)} times, recovered after {min(own):.2f} to {max(own):.2f} s"
        )
    p99 = quantile(case_run.row.recoveries, 0.99) or 0.0
    case_run.require_in_time(p99 < _MAX_RECOVERY_SECONDS, f"recovery p99 {p99:.2f} s")


async def _inject(case_run: CaseRun, deployment: Deployment, server: Server, fault: Fault) -> float:
    """Inject a fault; returns the seconds until all slices due within half a second are settled."""
    await _until_releasing(server)
    ((now,),) = await server.fetch("SELECT clock_timestamp()")
    begun = time.monotonic()
    injecting = asyncio.ensure_future(fault(case_run, deployment, server))
    case_run.injected()
    await asyncio.sleep(_MEANWHILE.total_seconds())
    await until_settled(server.conninfo, due_by=now + _MEANWHILE)
    seconds = time.monotonic() - begun
    await injecting
    return seconds


async def _until_releasing(server: Server) -> None:
    """Wait until slices were released just now, so that others are being released."""
    async with asyncio.timeout(_BUSY_SECONDS):
        while await server.fetch(_JUST_RELEASED) == [(0,)]:
            await asyncio.sleep(0.005)


async def _kill_one(case_run: CaseRun, deployment: Deployment, _: Server) -> None:
    worker = case_run.random.choice(deployment.of_kind("worker"))
    worker.kill()
    await deployment.start(worker)


async def _kill_both(_: CaseRun, deployment: Deployment, __: Server) -> None:
    workers = deployment.of_kind("worker")
    for worker in workers:
        worker.kill()
    await deployment.start(*workers)


async def _kill_backend(_: CaseRun, __: Deployment, server: Server) -> None:
    """Postgres ends all other sessions and recovers by itself."""
    await server.kill_backend("appender")


async def _stop_postgres(_: CaseRun, __: Deployment, server: Server) -> None:
    await server.stop_immediately()
    await server.start()


async def _kill_postmaster(_: CaseRun, __: Deployment, server: Server) -> None:
    await server.kill_postmaster()
    await server.start()


_FAULTS: Final[dict[str, Fault]] = {
    "kill -9 of a worker": _kill_one,
    "kill -9 of all workers": _kill_both,
    "kill -9 of a backend that appends": _kill_backend,
    "immediate shutdown of Postgres": _stop_postgres,
    "kill -9 of the postmaster": _kill_postmaster,
}


CASE: Final = Case(
    name="releases",
    promise="kill -9 of one or all processes with releasers, of a backend that appends, or of "
    "Postgres while slices are released: no slice is released twice or lost, and only slices whose "
    "deadline has passed expire. Recovery: from the fault until all slices that are due within the "
    "next half second are released or expired; p99 < 10 s",
    at_least=50,
    short=5,
    run=run,
)

"""No releaser runs for longer than the gaps between slices, while many orders are open."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from tests.faults.case import Case, CaseRun
from tests.faults.checks import until_quiet, until_settled
from tests.faults.deployment import Deployment
from tests.faults.interruption import FaultPoint, TargetWorker
from tests.faults.member import Member

_ORDERS: Final = 10_000
_ORDERS_SHORT: Final = 400
_CONCURRENT: Final = 60
_SPLITS: Final = 20
"""The gaps between slices are at least 0.4 of 1/19 of the window, so longer than a second."""

_MINUTES: Final = 10
_MINUTES_SHORT: Final = 1
_OUTAGE_SECONDS: Final = 120.0
_OUTAGE_SECONDS_SHORT: Final = 9.0
"""Two gaps or more: of each order some slices expire, and at most one is released late."""

_BETWEEN_SECONDS: Final = 2.0

_OVERDUE: Final = "SELECT count(*) FROM due_orders WHERE due_at <= clock_timestamp()"
_END_OF_LOG: Final = "SELECT max(notification_id) FROM stored_events"
_SETTLED_SINCE: Final = """
SELECT count(*) FILTER (WHERE topic = 'pulse.domain:SlicesReleased'),
       coalesce(sum(json_array_length(convert_from(state, 'UTF8')::json -> 'sequence_numbers'))
                FILTER (WHERE topic = 'pulse.domain:SlicesExpired'), 0)
  FROM stored_events WHERE notification_id > %s"""
_SHORTEST_DISTANCE: Final = """
SELECT extract(epoch FROM min(recorded_at - earlier))::float8
  FROM (SELECT recorded_at, lag(recorded_at) OVER (
                   PARTITION BY originator_id ORDER BY originator_version) AS earlier
          FROM stored_events WHERE topic = 'pulse.domain:SlicesReleased') releases"""

_DECIDING: Final = FaultPoint("frozen", "release", "read", "delivered")
"""A releaser that is frozen here has read what is due, and has not appended the releases."""


class _Workers(msgspec.Struct):
    """All workers. `target` can be frozen at a statement."""

    deployment: Deployment
    target: TargetWorker

    @property
    def all(self) -> list[Member]:
        return self.deployment.of_kind("worker")

    async def stop(self) -> None:
        await asyncio.gather(*(worker.stop() for worker in self.all))

    async def kill(self) -> None:
        for worker in self.all:
            worker.kill()

    async def start(self) -> None:
        await self.deployment.start(*self.all)

    async def freeze(self) -> None:
        for worker in self.all:
            if worker is not self.target.member:
                worker.freeze()
        await self.target.inject(_DECIDING)

    async def thaw(self) -> None:
        self.target.recover()
        for worker in self.all:
            worker.thaw()


Step = Callable[[_Workers], Awaitable[None]]


async def run(case_run: CaseRun) -> None:
    """Stop, freeze or kill all workers, in turn, and measure how the backlog is settled."""
    orders = _ORDERS_SHORT if case_run.short else _ORDERS
    settings = {"batch_size": 200}
    async with (
        case_run.deployment(
            apis=2, workers=1, settings=settings, caller={"abandon_share": 0.0}
        ) as deployment,
        TargetWorker.in_deployment(deployment, **settings) as target,
    ):
        await deployment.start(target.member)
        workers = _Workers(deployment, target)
        await _place(case_run, deployment, orders)
        for name in itertools.islice(itertools.cycle(_OUTAGES), case_run.times):
            await _interrupt(case_run, workers, name)
            await asyncio.sleep(_BETWEEN_SECONDS)
        ((shortest,),) = await deployment.server.fetch(_SHORTEST_DISTANCE)
        await deployment.settle()
        case_run.fact(f"two releases of an order are at least {shortest:.2f} s apart in the log")


async def _place(case_run: CaseRun, deployment: Deployment, orders: int) -> None:
    caller = deployment.caller
    minutes = _MINUTES_SHORT if case_run.short else _MINUTES
    begun = time.monotonic()
    left = iter(range(orders))

    async def place() -> None:
        for _ in left:
            await caller.place(
                caller.request(
                    total_quantity=case_run.random.randint(_SPLITS, 1_000_000),
                    split_config={
                        "num_splits": _SPLITS,
                        "duration_minutes": minutes,
                        "randomize": True,
                    },
                )
            )

    await asyncio.gather(*(place() for _ in range(_CONCURRENT)))
    await until_quiet(deployment.server.conninfo)
    case_run.fact(
        f"{orders:,} open orders of {_SPLITS} slices in {minutes} min, placed and split in "
        f"{time.monotonic() - begun:.0f} s"
    )


async def _interrupt(case_run: CaseRun, workers: _Workers, name: str) -> None:
    deployment = workers.deployment
    stop, resume = _OUTAGES[name]
    seconds = _OUTAGE_SECONDS_SHORT if case_run.short else _OUTAGE_SECONDS
    fetch = deployment.server.fetch
    await stop(workers)
    case_run.injected()
    ((end,),) = await fetch(_END_OF_LOG)
    await asyncio.sleep(seconds)
    ((overdue,),) = await fetch(_OVERDUE)
    begun = time.monotonic()
    await resume(workers)
    working_after = time.monotonic() - begun
    await until_settled(deployment.server.conninfo)
    took = time.monotonic() - begun
    case_run.recovered(took)
    ((released, expired),) = await fetch(_SETTLED_SINCE, end)
    case_run.fact(
        f"workers {name} for {seconds:g} s: {overdue:,} orders overdue; workers ran again after "
        f"{working_after:.1f} s and all that was due was settled after {took:.1f} s: "
        f"{expired:,} slices expired, {released:,} released"
    )


_OUTAGES: Final[dict[str, tuple[Step, Step]]] = {
    "stopped": (_Workers.stop, _Workers.start),
    "frozen": (_Workers.freeze, _Workers.thaw),
    "killed": (_Workers.kill, _Workers.start),
}


CASE: Final = Case(
    name="release_outage",
    promise="All processes with releasers are stopped, frozen or killed for longer than the gaps "
    "between slices, with many open orders: afterwards no order's slices are released in a burst, "
    "those whose deadline has passed expire, and the backlog is settled. Recovery: from the "
    "restart until all slices that were due are released or expired",
    at_least=3,
    short=2,
    run=run,
    waits=True,
)

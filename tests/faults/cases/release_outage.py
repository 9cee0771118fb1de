"""No releaser runs for longer than the gaps between slices, while many orders are open."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Final

from tests.faults.case import Case, CaseRun
from tests.faults.checks import until_quiet, until_settled
from tests.faults.deployment import Deployment

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

Step = Callable[[Deployment], Awaitable[object]]


async def run(case_run: CaseRun) -> None:
    """End all workers in one way after the other, and measure how the backlog is settled."""
    orders = _ORDERS_SHORT if case_run.short else _ORDERS
    async with case_run.deployment(
        apis=2, workers=2, settings={"batch_size": 200}, caller={"abandon_share": 0.0}
    ) as deployment:
        await _place(case_run, deployment, orders)
        for name in itertools.islice(itertools.cycle(_OUTAGES), case_run.times):
            await _interrupt(case_run, deployment, name)
            await asyncio.sleep(_BETWEEN_SECONDS)
        ((shortest,),) = await deployment.server.fetch(_SHORTEST_DISTANCE)
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


async def _interrupt(case_run: CaseRun, deployment: Deployment, name: str) -> None:
    stop, resume = _OUTAGES[name]
    seconds = _OUTAGE_SECONDS_SHORT if case_run.short else _OUTAGE_SECONDS
    fetch = deployment.server.fetch
    await stop(deployment)
    case_run.injected()
    ((end,),) = await fetch(_END_OF_LOG)
    await asyncio.sleep(seconds)
    ((overdue,),) = await fetch(_OVERDUE)
    begun = time.monotonic()
    await resume(deployment)
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


async def _stop(deployment: Deployment) -> None:
    await asyncio.gather(*(worker.stop() for worker in deployment.of_kind("worker")))


async def _start(deployment: Deployment) -> None:
    await deployment.start(*deployment.of_kind("worker"))


async def _kill(deployment: Deployment) -> None:
    for worker in deployment.of_kind("worker"):
        worker.kill()


async def _freeze(deployment: Deployment) -> None:
    for worker in deployment.of_kind("worker"):
        worker.freeze()


async def _thaw(deployment: Deployment) -> None:
    for worker in deployment.of_kind("worker"):
        worker.thaw()


_OUTAGES: Final[dict[str, tuple[Step, Step]]] = {
    "stopped": (_stop, _start),
    "frozen": (_freeze, _thaw),
    "killed": (_kill, _start),
}


CASE: Final = Case(
    name="release_outage",
    promise="All processes with releasers are stopped, frozen or killed for longer than the gaps "
    "between slices, with many open orders: afterwards no order's slices go out in a burst, those "
    "whose deadline has passed expire, and the backlog is settled. Recovery: from the restart "
    "until all slices that were due are released or expired",
    at_least=3,
    short=3,
    run=run,
)

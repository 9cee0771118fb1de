"""Postgres crashes under load: an immediate shutdown and restart, or one backend killed."""

import asyncio
import time
from typing import Final

from tests.faults.case import Case, CaseRun
from tests.faults.deployment import Deployment
from tests.faults.server import Server

_ORDERS_PER_SECOND: Final = 100.0
_WINDOW_SECONDS: Final = 4.0
_SHARE: Final = 0.95


async def run(case_run: CaseRun) -> None:
    """Crash Postgres repeatedly; compare the rate after each crash with the rate before."""
    shares: list[float] = []
    skipped_ids = 0
    async with (
        Server.running(case_run.home / "postgres") as server,
        case_run.deployment(server=server, apis=2, workers=2, readers=2) as deployment,
        deployment.caller.load(rate=_ORDERS_PER_SECOND),
    ):
        before = await _rate(deployment)
        for number in range(case_run.times):
            begun, end = time.monotonic(), await _end_of_log(deployment)
            if number % 2:
                await server.kill_backend()
            else:
                await server.stop_immediately()
                await server.start()
            case_run.injected()
            await deployment.until_serving_again()
            skipped_ids += await _largest_gap_after(deployment, end)
            case_run.recovered(time.monotonic() - begun)
            shares.append(await _rate(deployment) / before)
    worst = min(shares)
    case_run.fact(
        f"{before:.0f} orders per second before; at least {worst:.0%} of that after each crash"
    )
    case_run.fact(f"{skipped_ids:,} ids skipped by the crashes")
    case_run.require_in_time(
        worst >= _SHARE, f"only {worst:.0%} of the rate returned after a crash"
    )
    case_run.require(skipped_ids > 0, "no id was skipped, so readers were not tested")


async def _rate(deployment: Deployment) -> float:
    """Accepted orders per second during the next seconds."""
    begun = time.monotonic()
    await asyncio.sleep(_WINDOW_SECONDS)
    return deployment.caller.rate_between(begun, time.monotonic())


async def _end_of_log(deployment: Deployment) -> int:
    rows = await deployment.server.fetch(
        "SELECT coalesce(max(notification_id), 0) FROM stored_events"
    )
    return int(rows[0][0])


async def _largest_gap_after(deployment: Deployment, position: int) -> int:
    """The largest gap between two ids after a position: the ids that the crash skipped."""
    rows = await deployment.server.fetch(
        """SELECT coalesce(max(jump), 1) - 1 FROM (
               SELECT notification_id - lag(notification_id) OVER (ORDER BY notification_id) AS jump
                 FROM stored_events WHERE notification_id >= %s) jumps""",
        position,
    )
    return int(rows[0][0])


CASE: Final = Case(
    name="crashes",
    promise="Postgres is shut down immediately and restarted, or one backend is killed, under "
    "load: no accepted order is lost, at least 95 % of the rate returns, and no reader stalls on "
    "the skipped ids. Recovery: every API accepts an order, and its slices are in the log",
    at_least=20,
    short=2,
    run=run,
)

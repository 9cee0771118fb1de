"""kill -9 of APIs, workers, the projecting process and gateways while they work."""

import asyncio
import itertools
import time
from collections import Counter
from typing import Final, get_args

from tests.faults.activity import KINDS, Role, WorkMonitor, closed_loop_load
from tests.faults.caller import Caller
from tests.faults.case import Case, CaseRun
from tests.faults.deployment import Deployment
from tests.faults.report import quantile

_ORDERS_PER_KILL: Final = 200
_CONCURRENT: Final = 60
_ORDERS_PER_SECOND: Final = 25.0
_BATCH: Final = 50
_MAX_RECOVERY_SECONDS: Final = 2.0
_BETWEEN_STATEMENTS: Final = 0.7
"""The share of members killed between statements; the others die while Postgres executes one."""

_MIN_WORK: Final[dict[Role, int]] = {"api": 3, "gateway": 3, "worker": 1, "projecting": 1}
_WORK: Final = {
    "api": "requests in flight",
    "gateway": "requests in flight",
    "worker": "claimed orders without an outcome",
    "projecting": "open projection transactions",
}


async def run(case_run: CaseRun) -> None:
    """Kill busy members one after another, each role equally often, and restart them.

    A member is frozen for some milliseconds first, to verify that it still has work in progress.
    """
    kills: Counter[Role] = Counter()
    held: Counter[Role] = Counter()
    async with (
        case_run.deployment(
            apis=2, workers=2, gateways=2, everything=1, settings={"batch_size": _BATCH}
        ) as deployment,
        WorkMonitor.of(deployment) as monitor,
        deployment.caller.load(rate=_ORDERS_PER_SECOND),
    ):
        for role in itertools.islice(itertools.cycle(get_args(Role)), case_run.times):
            held[role] += await _kill_one(case_run, deployment, monitor, role)
            kills[role] += 1
        await _place_missing(deployment, case_run.times * _ORDERS_PER_KILL)
    for role, times in kills.items():
        case_run.fact(f"{role}: {times} kills, {held[role]} {_WORK[role]}")
    p99 = quantile(case_run.row.recoveries, 0.99) or 0.0
    case_run.require_in_time(p99 < _MAX_RECOVERY_SECONDS, f"recovery p99 {p99:.2f} s")


async def _kill_one(
    case_run: CaseRun, deployment: Deployment, monitor: WorkMonitor, role: Role
) -> int:
    """Kill a busy member of that role; returns how much work it had in progress."""
    async with closed_loop_load(deployment) as stop_load:
        await asyncio.sleep(case_run.random.uniform(0.1, 0.4))
        target, held = await monitor.freeze_busy(
            role,
            deployment.of_kind(*KINDS[role]),
            min_work=_MIN_WORK[role],
            between_statements=case_run.random.random() < _BETWEEN_STATEMENTS,
        )
        orders, end = await monitor.orders_held_by(target.pid), await monitor.end_of_log()
        target.kill()
        killed_at = time.monotonic()
        stop_load.set()
        case_run.injected()
        await asyncio.gather(
            monitor.until_taken_over(target.pid, orders, end), _until_served(deployment)
        )
        case_run.recovered(time.monotonic() - killed_at)
        await deployment.start(target)
    return held


async def _until_served(deployment: Deployment) -> None:
    """Wait until a new caller of each scope, with retries, has an order accepted."""
    endpoints = deployment.endpoints()
    async with Caller.with_endpoints(
        deployment.ledger, endpoints, deployment.random, abandon_share=0.0
    ) as caller:
        await asyncio.gather(*(caller.place(scope=scope) for scope in {d.scope for d in endpoints}))
        deployment.caller.wrong += caller.wrong


async def _place_missing(deployment: Deployment, orders: int) -> None:
    for _ in range(0, orders - len(deployment.ledger.read()), _CONCURRENT):
        await asyncio.gather(*(deployment.caller.place() for _ in range(_CONCURRENT)))


CASE: Final = Case(
    name="kills",
    promise="kill -9 of an API, worker, projecting process or gateway while it works: no order is "
    "lost, doubled or skipped, and none fails. Recovery: its claimed orders have outcomes, the "
    "projection has reached the log's end at the kill, and new orders are accepted; p99 < 2 s",
    at_least=52,
    short=4,
    run=run,
)

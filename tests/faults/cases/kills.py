"""kill -9 of APIs, workers, the projecting process, and gateways, each in the midst of its work."""

import asyncio
import itertools
import time
from collections import Counter
from typing import Final, get_args

from tests.faults.activity import KINDS, ActivityWatch, Role, pressure
from tests.faults.caller import Caller
from tests.faults.case import Case, CaseRun
from tests.faults.deployment import Deployment
from tests.faults.report import quantile

_ORDERS_A_KILL: Final = 200
_AT_ONCE: Final = 60
_RATE: Final = 25.0
_BATCH: Final = 50
_MOST_RECOVERY_SECONDS: Final = 2.0
_BETWEEN_STATEMENTS: Final = 0.7
"""Of so many the last statement has ended; the others die while Postgres is at it."""

_LEAST: Final[dict[Role, int]] = {"api": 3, "gateway": 3, "worker": 1, "projecting": 1}
_WORK: Final = {
    "api": "requests in flight",
    "gateway": "requests in flight",
    "worker": "claimed orders unsettled",
    "projecting": "projections under way",
}


async def run(case_run: CaseRun) -> None:
    """Kill one member after another at work, in each role alike; each starts again in its place.

    A victim is frozen for some milliseconds first, to be sure that it still has work in its hands.
    """
    kills: Counter[Role] = Counter()
    held: Counter[Role] = Counter()
    async with (
        case_run.deployment(
            apis=2, workers=2, gateways=2, everything=1, settings={"batch_size": _BATCH}
        ) as deployment,
        ActivityWatch.over(deployment) as watch,
        deployment.caller.load(rate=_RATE),
    ):
        for role in itertools.islice(itertools.cycle(get_args(Role)), case_run.times):
            held[role] += await _kill_one(case_run, deployment, watch, role)
            kills[role] += 1
        await _place_missing(deployment, case_run.times * _ORDERS_A_KILL)
    for role, times in kills.items():
        case_run.fact(f"{role}: {times} kills at work, {held[role]} {_WORK[role]}")
    p99 = quantile(case_run.row.recoveries, 0.99) or 0.0
    case_run.require_in_time(p99 < _MOST_RECOVERY_SECONDS, f"recovery p99 {p99:.2f} s")


async def _kill_one(
    case_run: CaseRun, deployment: Deployment, watch: ActivityWatch, role: Role
) -> int:
    """Kill whoever is at work in that role; how much work it had in its hands."""
    async with pressure(deployment) as over:
        await asyncio.sleep(case_run.random.uniform(0.1, 0.4))
        victim, held = await watch.caught(
            role,
            deployment.of_kind(*KINDS[role]),
            least=_LEAST[role],
            between_statements=case_run.random.random() < _BETWEEN_STATEMENTS,
        )
        orders, end = await watch.orders_held_by(victim.pid), await watch.end_of_log()
        victim.kill()
        killed_at = time.monotonic()
        over.set()
        case_run.injected()
        await asyncio.gather(
            watch.until_taken_over(victim.pid, orders, end), _until_served(deployment)
        )
        case_run.recovered(time.monotonic() - killed_at)
        await deployment.start(victim)
    return held


async def _until_served(deployment: Deployment) -> None:
    """A new caller of either kind, who asks again where it is refused, has its order accepted."""
    endpoints = deployment.endpoints()
    async with Caller.with_endpoints(
        deployment.ledger, endpoints, deployment.random, gives_up=0.0
    ) as caller:
        await asyncio.gather(*(caller.place(scope=scope) for scope in {d.scope for d in endpoints}))
        deployment.caller.wrong += caller.wrong


async def _place_missing(deployment: Deployment, orders: int) -> None:
    for _ in range(0, orders - len(deployment.ledger.read()), _AT_ONCE):
        await asyncio.gather(*(deployment.caller.place() for _ in range(_AT_ONCE)))


CASE: Final = Case(
    name="kills",
    promise="kill -9 of API, worker, projecting process or gateway in the midst of its work: "
    "nothing lost, doubled or skipped; no order FAILED for it; what it had claimed settled by "
    "others, the projection at the log's end of then, and new orders taken: p99 < 2 s",
    at_least=52,
    short=4,
    run=run,
)

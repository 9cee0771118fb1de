"""Backends terminated twice a second, so that every connection of Pulse breaks."""

import asyncio
import time
from collections import Counter
from typing import Final

from tests.faults.case import Case, CaseRun
from tests.faults.deployment import Deployment

_ORDERS_PER_SECOND: Final = 100.0
_INTERVAL_SECONDS: Final = 0.5


async def run(case_run: CaseRun) -> None:
    """Terminate random backends of Pulse, one every half second."""
    roles: Counter[str] = Counter()
    async with (
        case_run.deployment(apis=2, workers=2, gateways=1) as deployment,
        deployment.caller.load(rate=_ORDERS_PER_SECOND),
    ):
        begun = time.monotonic()
        for number in range(case_run.times):
            await asyncio.sleep(max(0.0, begun + number * _INTERVAL_SECONDS - time.monotonic()))
            role = await _terminate_one(deployment)
            while role is None:
                role = await _terminate_one(deployment)
            roles[role] += 1
            case_run.injected()
        case_run.recovered(await deployment.until_serving_again())
        statuses = deployment.caller.statuses
        refused = sum(count for status, count in statuses.items() if status not in {200, 201, 202})
        case_run.fact(
            f"answers by status: {_joined(statuses)}; {refused / statuses.total():.1%} to retry"
        )
    case_run.fact(f"connections terminated by role: {_joined(roles)}")


async def _terminate_one(deployment: Deployment) -> str | None:
    """Terminate a connection of a random role, each role equally likely; returns the role."""
    rows = await deployment.server.fetch(
        """SELECT role, pg_terminate_backend(pid) FROM (
               SELECT DISTINCT ON (role) role, pid FROM (
                   SELECT substring(application_name FROM '^pulse:([a-z-]+)@') AS role, pid
                     FROM pg_stat_activity WHERE application_name LIKE 'pulse:%%@%%'
                    ORDER BY random()) one_each
                ORDER BY role) each ORDER BY random() LIMIT 1"""
    )
    return rows[0][0] if rows else None


def _joined(counts: Counter[int] | Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=str))


CASE: Final = Case(
    name="terminations",
    promise="Backends are terminated twice a second for a minute: every connection is opened "
    "again, and callers get success or 503, never a wrong answer",
    at_least=120,
    short=12,
    run=run,
)

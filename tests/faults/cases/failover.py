"""The primary is killed under load and its synchronous replica takes over."""

import asyncio
import time
from typing import Final

from tests.faults.case import Case, CaseRun
from tests.faults.replicated import Replicated

_ORDERS_PER_SECOND: Final = 60.0
_BETWEEN_SECONDS: Final = 2.0


async def run(case_run: CaseRun) -> None:
    """Fail over repeatedly; after each failover create a new replica of the new primary."""
    takeovers: list[float] = []
    async with (
        Replicated.running(case_run.home / "pair") as pair,
        case_run.deployment(server=pair, apis=2, workers=2) as deployment,
        deployment.caller.load(rate=_ORDERS_PER_SECOND),
    ):
        for _ in range(case_run.times):
            await asyncio.sleep(_BETWEEN_SECONDS)
            begun = time.monotonic()
            await pair.fail_over()
            takeovers.append(time.monotonic() - begun)
            case_run.injected()
            await deployment.until_serving_again()
            case_run.recovered(time.monotonic() - begun)
            await pair.follow()
    case_run.fact(
        f"the replica accepted writes after {min(takeovers):.2f} to {max(takeovers):.2f} s"
    )


CASE: Final = Case(
    name="failover",
    promise="The primary is killed under load and its synchronous replica promoted: no accepted "
    "order is lost, and Pulse finds the new primary (its URL has both hosts and "
    "target_session_attrs=read-write). Recovery: from the kill until every API accepts an order, "
    "and its slices are in the log",
    at_least=5,
    short=0,
    run=run,
)

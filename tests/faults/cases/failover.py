"""The primary dies under load and its synchronous replica takes over."""

import asyncio
import time
from typing import Final

from tests.faults.case import Case, CaseRun
from tests.faults.replicated import Replicated

_RATE: Final = 60.0
_BETWEEN_SECONDS: Final = 2.0


async def run(case_run: CaseRun) -> None:
    """Fail over and back; each time a new replica is made of the new primary before the next."""
    takeovers: list[float] = []
    async with (
        Replicated.running(case_run.home / "pair") as pair,
        case_run.deployment(server=pair, apis=2, workers=2) as deployment,
        deployment.caller.load(rate=_RATE),
    ):
        for _ in range(case_run.times):
            await asyncio.sleep(_BETWEEN_SECONDS)
            begun = time.monotonic()
            await pair.fail_over()
            takeovers.append(time.monotonic() - begun)
            case_run.injected()
            await deployment.until_served()
            case_run.recovered(time.monotonic() - begun)
            await pair.follow()
    case_run.fact(
        f"of that, until the replica took writes: {min(takeovers):.2f} to {max(takeovers):.2f} s"
    )


CASE: Final = Case(
    name="failover",
    promise="the primary killed under load, its synchronous replica promoted: nothing accepted is "
    "lost; Pulse finds the new primary by itself (a URL with both hosts and "
    "target_session_attrs=read-write); recovery is from the kill until every API accepts and an "
    "order of afterwards has its slices",
    at_least=5,
    short=0,
    run=run,
)

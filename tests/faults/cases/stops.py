"""SIGTERM to every kind of process under load, two at a time: what it has read is answered."""

import asyncio
import signal
import time
from collections import Counter
from typing import Final

from tests.faults.activity import ActivityWatch, Role, pressure
from tests.faults.caller import Answer
from tests.faults.case import Case, CaseRun
from tests.faults.deployment import Deployment
from tests.faults.member import Kind, Member

_GRACE_SECONDS: Final = 15.0
"""The grace period of docs/how-to/run-pulse.md."""

_READ_SECONDS: Final = 0.25
"""How long a request may wait in the kernel before a loaded process reads it."""

_RATE: Final = 20.0
_BATCH: Final = 20
_IN_FLIGHT: Final = 5
_ROLES: Final[dict[Kind, Role]] = {
    "api": "api",
    "gateway": "gateway",
    "worker": "worker",
    "everything": "worker",
}
_PAIRS: Final[tuple[tuple[tuple[Kind, Kind], tuple[Kind, Kind]], ...]] = (
    (("api", "worker"), ("gateway", "everything")),
    (("api", "everything"), ("worker", "gateway")),
)
"""Who is stopped at once: whoever stays can take over. A gateway and its API never are: what is in
flight at the one needs the other."""


class _Stops:
    """What was seen of all the stops."""

    def __init__(self) -> None:
        self.of_kind: Counter[Kind] = Counter()
        self.held: Counter[str] = Counter()
        self.instances: list[str] = []


async def run(case_run: CaseRun) -> None:
    """Stop two members at work after the other two; each starts again in its place."""
    stops = _Stops()
    async with (
        case_run.deployment(
            apis=2,
            workers=2,
            gateways=2,
            everything=1,
            settings={"batch_size": _BATCH},
            caller={"connection_each": True},
        ) as deployment,
        ActivityWatch.over(deployment) as watch,
        deployment.caller.load(rate=_RATE),
    ):
        while case_run.row.injected < case_run.times:
            for kinds in case_run.random.choice(_PAIRS):
                await _stop_at_once(case_run, deployment, watch, kinds, stops)
    _check_logs(case_run, deployment, stops)
    case_run.fact(", ".join(f"{count} x {kind}" for kind, count in stops.of_kind.items()))
    case_run.fact(
        f"at the signals {stops.held['requests']} requests in flight there and "
        f"{stops.held['claims']} orders claimed; {stops.held['later']} later requests accepted; "
        f"the slowest exit {max(case_run.row.recoveries, default=0.0):.2f} s"
    )


async def _stop_at_once(
    case_run: CaseRun,
    deployment: Deployment,
    watch: ActivityWatch,
    kinds: tuple[Kind, ...],
    stops: _Stops,
) -> None:
    stopped: list[Member] = []
    async with pressure(deployment) as over, asyncio.TaskGroup() as ends:
        await asyncio.sleep(case_run.random.uniform(0.1, 0.4))
        for kind in kinds:
            role = _ROLES[kind]
            least = 1 if role == "worker" else _IN_FLIGHT
            member, held = await watch.found(role, deployment.of_kind(kind), least=least)
            member.tell(signal.SIGTERM)
            ends.create_task(_see_end(case_run, deployment, member, time.monotonic(), stops))
            stops.held["claims"] += held if role == "worker" else 0
            stopped.append(member)
        over.set()
    await deployment.start(*stopped)


async def _see_end(
    case_run: CaseRun, deployment: Deployment, member: Member, told_at: float, stops: _Stops
) -> None:
    """Hold its end against what is promised."""
    exit_code = await member.until_ended()
    seconds = time.monotonic() - told_at
    left = await deployment.server.fetch(
        "SELECT count(*) FROM order_claims WHERE split_part(claimed_by, ':', 2) = %s",
        str(member.pid),
    )
    case_run.injected()
    case_run.recovered(seconds)
    name = f"{member.kind} {member.pid}"
    case_run.require(exit_code == 0, f"{name} ended with {exit_code}: {member.logged[-500:]}")
    case_run.require(seconds <= _GRACE_SECONDS, f"{name} took {seconds:.1f} s to end")
    case_run.require(left[0][0] == 0, f"{name} left {left[0][0]} claims behind")
    case_run.require("Traceback" not in member.logged, f"{name} crashed: {member.logged[-500:]}")
    stops.of_kind[member.kind] += 1
    stops.instances.append(f":{member.pid}:")
    await _until_all_answered(deployment, member)
    _check_answers(case_run, deployment, member, told_at, stops)


async def _until_all_answered(deployment: Deployment, member: Member) -> None:
    """It is gone, and its caller has seen the last of it too."""
    in_flight = deployment.caller.in_flight
    while in_flight[member.url] or in_flight[member.gateway_url]:
        await asyncio.sleep(0.005)


def _check_answers(
    case_run: CaseRun, deployment: Deployment, member: Member, told_at: float, stops: _Stops
) -> None:
    """A request that was read before the signal is answered, and not refused."""
    urls = {member.url, member.gateway_url}
    since = [
        a for a in deployment.caller.answers if a.url in urls and a.sent_at + a.seconds > told_at
    ]
    unread_at = told_at - _READ_SECONDS
    cut_off = [answer for answer in since if answer.cut_off and answer.sent_at < unread_at]
    case_run.require(
        not cut_off, f"{member.kind}: {len(cut_off)} cut off: {_shown(cut_off, told_at)}"
    )
    in_flight = [answer for answer in since if answer.spans(told_at) and answer.status]
    failed = [answer for answer in in_flight if answer.status >= 300]
    case_run.require(
        not failed, f"{member.kind}: {len(failed)} in flight: {_shown(failed, told_at)}"
    )
    stops.held["requests"] += len(in_flight)
    stops.held["later"] += sum(a.status in {200, 201, 202} for a in since) - len(in_flight)


def _shown(answers: list[Answer], told_at: float) -> str:
    return ", ".join(
        f"{a.status} ({a.error}) sent {a.sent_at - told_at:+.3f} s, {a.seconds:.3f} s"
        for a in answers[:5]
    )


def _check_logs(case_run: CaseRun, deployment: Deployment, stops: _Stops) -> None:
    """Nobody had to clear up after one that was stopped."""
    lines = [
        line
        for log in deployment.home.glob("*.log")
        for line in log.read_text(errors="replace").splitlines()
        if "claims.orphans_released" in line and any(pid in line for pid in stops.instances)
    ]
    case_run.require(not lines, f"{len(lines)} times others released claims: {lines[:3]}")


CASE: Final = Case(
    name="stops",
    promise="SIGTERM under load: a request that was read is answered, no claim is left behind, "
    "exit code 0 within 15 s",
    at_least=50,
    short=4,
    run=run,
)

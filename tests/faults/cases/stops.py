"""SIGTERM to every kind of process under load, two at a time."""

import asyncio
import signal
import time
from collections import Counter
from typing import Final

from tests.faults.activity import Role, WorkMonitor, closed_loop_load
from tests.faults.caller import Answer
from tests.faults.case import Case, CaseRun
from tests.faults.deployment import Deployment
from tests.faults.member import Kind, Member

_GRACE_SECONDS: Final = 15.0
"""The grace period of docs/how-to/run-pulse.md."""

_READ_SECONDS: Final = 0.25
"""How long a request can wait in the kernel until a loaded process reads it."""

_ORDERS_PER_SECOND: Final = 20.0
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
"""The kinds that are stopped together; the rest can take over. A gateway and its API are never
stopped together, because requests in flight at the gateway need the API."""


class _Stops:
    """Counts over all stops."""

    def __init__(self) -> None:
        self.of_kind: Counter[Kind] = Counter()
        self.held: Counter[str] = Counter()
        self.instances: list[str] = []


async def run(case_run: CaseRun) -> None:
    """Stop pairs of busy members and restart them."""
    stops = _Stops()
    async with (
        case_run.deployment(
            apis=2,
            workers=2,
            gateways=2,
            everything=1,
            settings={"batch_size": _BATCH},
            caller={"new_connections": True},
        ) as deployment,
        WorkMonitor.of(deployment) as monitor,
        deployment.caller.load(rate=_ORDERS_PER_SECOND),
    ):
        while case_run.row.injected < case_run.times:
            for kinds in case_run.random.choice(_PAIRS):
                await _stop_pair(case_run, deployment, monitor, kinds, stops)
    _check_logs(case_run, deployment, stops)
    case_run.fact(", ".join(f"{count} x {kind}" for kind, count in stops.of_kind.items()))
    case_run.fact(
        f"when SIGTERM was sent: {stops.held['requests']} requests in flight and "
        f"{stops.held['claims']} orders claimed; {stops.held['later']} later requests accepted; "
        f"slowest exit {max(case_run.row.recoveries, default=0.0):.2f} s"
    )


async def _stop_pair(
    case_run: CaseRun,
    deployment: Deployment,
    monitor: WorkMonitor,
    kinds: tuple[Kind, ...],
    stops: _Stops,
) -> None:
    stopped: list[Member] = []
    async with closed_loop_load(deployment) as stop_load, asyncio.TaskGroup() as ends:
        await asyncio.sleep(case_run.random.uniform(0.1, 0.4))
        for kind in kinds:
            role = _ROLES[kind]
            min_work = 1 if role == "worker" else _IN_FLIGHT
            member, held = await monitor.find_busy(
                role, deployment.of_kind(kind), min_work=min_work
            )
            member.send_signal(signal.SIGTERM)
            ends.create_task(_check_end(case_run, deployment, member, time.monotonic(), stops))
            stops.held["claims"] += held if role == "worker" else 0
            stopped.append(member)
        stop_load.set()
    await deployment.start(*stopped)


async def _check_end(
    case_run: CaseRun, deployment: Deployment, member: Member, signalled_at: float, stops: _Stops
) -> None:
    """Check exit code, exit time, claims and answers of a stopped member."""
    exit_code = await member.until_ended()
    seconds = time.monotonic() - signalled_at
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
    _check_answers(case_run, deployment, member, signalled_at, stops)


async def _until_all_answered(deployment: Deployment, member: Member) -> None:
    """Wait until the caller has the result of every request to that member."""
    in_flight = deployment.caller.in_flight
    while in_flight[member.url] or in_flight[member.gateway_url]:
        await asyncio.sleep(0.005)


def _check_answers(
    case_run: CaseRun, deployment: Deployment, member: Member, signalled_at: float, stops: _Stops
) -> None:
    """A request that was read before the signal is answered and not refused."""
    urls = {member.url, member.gateway_url}
    since = [
        a
        for a in deployment.caller.answers
        if a.url in urls and a.sent_at + a.seconds > signalled_at
    ]
    unread_at = signalled_at - _READ_SECONDS
    cut_off = [answer for answer in since if answer.cut_off and answer.sent_at < unread_at]
    case_run.require(
        not cut_off, f"{member.kind}: {len(cut_off)} cut off: {_shown(cut_off, signalled_at)}"
    )
    in_flight = [answer for answer in since if answer.spans(signalled_at) and answer.status]
    failed = [answer for answer in in_flight if answer.status >= 300]
    case_run.require(
        not failed, f"{member.kind}: {len(failed)} in flight: {_shown(failed, signalled_at)}"
    )
    stops.held["requests"] += len(in_flight)
    stops.held["later"] += sum(a.status in {200, 201, 202} for a in since) - len(in_flight)


def _shown(answers: list[Answer], signalled_at: float) -> str:
    return ", ".join(
        f"{a.status} ({a.error}) sent {a.sent_at - signalled_at:+.3f} s, {a.seconds:.3f} s"
        for a in answers[:5]
    )


def _check_logs(case_run: CaseRun, deployment: Deployment, stops: _Stops) -> None:
    """No process had to release the claims of a stopped member."""
    lines = [
        line
        for log in deployment.home.glob("*.log")
        for line in log.read_text(errors="replace").splitlines()
        if "claims.orphans_released" in line and any(pid in line for pid in stops.instances)
    ]
    case_run.require(
        not lines, f"claims of stopped members were released {len(lines)} times: {lines[:3]}"
    )


CASE: Final = Case(
    name="stops",
    promise="SIGTERM under load: each request that was read is answered, no claim is left, and "
    "the process exits with code 0 within 15 s",
    at_least=50,
    short=4,
    run=run,
)

"""SIGTERM to every kind of process under load, two at a time: what it has read is answered."""

import asyncio
import signal
import time
from collections import Counter
from typing import Final

from tests.faults.at_work import Role, Watch, pressure
from tests.faults.caller import Answer
from tests.faults.house import House
from tests.faults.member import Kind, Member
from tests.faults.scene import Case, Scene

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


async def run(scene: Scene) -> None:
    """Stop two members at work after the other two; each starts again in its place."""
    stops = _Stops()
    async with (
        scene.house(
            apis=2,
            workers=2,
            gateways=2,
            everything=1,
            settings={"batch_size": _BATCH},
            caller={"connection_each": True},
        ) as house,
        Watch.over(house) as watch,
        house.caller.load(rate=_RATE),
    ):
        while scene.row.injected < scene.times:
            for kinds in scene.random.choice(_PAIRS):
                await _stop_at_once(scene, house, watch, kinds, stops)
    _check_logs(scene, house, stops)
    scene.fact(", ".join(f"{count} x {kind}" for kind, count in stops.of_kind.items()))
    scene.fact(
        f"at the signals {stops.held['requests']} requests in flight there and "
        f"{stops.held['claims']} orders claimed; {stops.held['later']} later requests accepted; "
        f"the slowest exit {max(scene.row.recoveries, default=0.0):.2f} s"
    )


async def _stop_at_once(
    scene: Scene, house: House, watch: Watch, kinds: tuple[Kind, ...], stops: _Stops
) -> None:
    stopped: list[Member] = []
    async with pressure(house) as over, asyncio.TaskGroup() as ends:
        await asyncio.sleep(scene.random.uniform(0.1, 0.4))
        for kind in kinds:
            role = _ROLES[kind]
            least = 1 if role == "worker" else _IN_FLIGHT
            member, held = await watch.found(role, house.of_kind(kind), least=least)
            member.tell(signal.SIGTERM)
            ends.create_task(_see_end(scene, house, member, time.monotonic(), stops))
            stops.held["claims"] += held if role == "worker" else 0
            stopped.append(member)
        over.set()
    await house.start(*stopped)


async def _see_end(
    scene: Scene, house: House, member: Member, told_at: float, stops: _Stops
) -> None:
    """Hold its end against what is promised."""
    exit_code = await member.until_ended()
    seconds = time.monotonic() - told_at
    left = await house.server.fetch(
        "SELECT count(*) FROM order_claims WHERE split_part(claimed_by, ':', 2) = %s",
        str(member.pid),
    )
    scene.injected()
    scene.recovered(seconds)
    name = f"{member.kind} {member.pid}"
    scene.require(exit_code == 0, f"{name} ended with {exit_code}: {member.logged[-500:]}")
    scene.require(seconds <= _GRACE_SECONDS, f"{name} took {seconds:.1f} s to end")
    scene.require(left[0][0] == 0, f"{name} left {left[0][0]} claims behind")
    scene.require("Traceback" not in member.logged, f"{name} crashed: {member.logged[-500:]}")
    stops.of_kind[member.kind] += 1
    stops.instances.append(f":{member.pid}:")
    await _until_all_answered(house, member)
    _check_answers(scene, house, member, told_at, stops)


async def _until_all_answered(house: House, member: Member) -> None:
    """It is gone, and its caller has seen the last of it too."""
    in_flight = house.caller.in_flight
    while in_flight[member.url] or in_flight[member.gateway_url]:
        await asyncio.sleep(0.005)


def _check_answers(
    scene: Scene, house: House, member: Member, told_at: float, stops: _Stops
) -> None:
    """A request that was read before the signal is answered, and not refused."""
    urls = {member.url, member.gateway_url}
    since = [a for a in house.caller.answers if a.url in urls and a.sent_at + a.seconds > told_at]
    unread_at = told_at - _READ_SECONDS
    cut_off = [answer for answer in since if answer.cut_off and answer.sent_at < unread_at]
    scene.require(not cut_off, f"{member.kind}: {len(cut_off)} cut off: {_shown(cut_off, told_at)}")
    in_flight = [answer for answer in since if answer.spans(told_at) and answer.status]
    failed = [answer for answer in in_flight if answer.status >= 300]
    scene.require(not failed, f"{member.kind}: {len(failed)} in flight: {_shown(failed, told_at)}")
    stops.held["requests"] += len(in_flight)
    stops.held["later"] += sum(a.status in {200, 201, 202} for a in since) - len(in_flight)


def _shown(answers: list[Answer], told_at: float) -> str:
    return ", ".join(
        f"{a.status} ({a.error}) sent {a.sent_at - told_at:+.3f} s, {a.seconds:.3f} s"
        for a in answers[:5]
    )


def _check_logs(scene: Scene, house: House, stops: _Stops) -> None:
    """Nobody had to clear up after one that was stopped."""
    lines = [
        line
        for log in house.home.glob("*.log")
        for line in log.read_text(errors="replace").splitlines()
        if "claims.orphans_released" in line and any(pid in line for pid in stops.instances)
    ]
    scene.require(not lines, f"{len(lines)} times others released claims: {lines[:3]}")


CASE: Final = Case(
    name="stops",
    promise="SIGTERM under load: a request that was read is answered, no claim is left behind, "
    "exit code 0 within 15 s",
    at_least=50,
    short=4,
    run=run,
)

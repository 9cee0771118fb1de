"""Many times the load that Pulse can process, behind HAProxy and without.

Pulse and its Postgres have one core, HAProxy and the generator of load the other: HAProxy sheds
load only while it has a processor to do so. Behind it each request is a batch of orders, so that
one core can offer ten times the peak and shed nine tenths of it; single orders cost those two
nearly as much as they cost Pulse. Goodput and recovery are required behind HAProxy, and only
reported without a proxy.
"""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, Self

import msgspec
import psutil

from tests.faults.case import Case, CaseRun, CaseUnavailable
from tests.faults.checks import until_quiet
from tests.faults.deployment import DESK, Deployment
from tests.faults.open_loop_load import GIVEN_UP, UNSENT, Outcome, Plan
from tests.faults.report import quantile
from tests.faults.server import Server
from tests.support.haproxy import HAPROXY, haproxy

_TIMES_TOO_MUCH: Final = (10, 5, 2)
_AT_ONCE: Final = 64
"""Requests in flight at the peak: as many as HAProxy hands on."""
_ORDERS_EACH: Final = 50
_BATCH_SIZE: Final = 500
"""Orders that the worker claims at once, so that the backlog is split in seconds."""
_WARM_SECONDS: Final = 1.5
_LEAST_GOODPUT: Final = 0.9
"""Of the peak, behind HAProxy."""
_LEAST_OFFERED: Final = 0.9
"""Of the intended rate; a generator that offers less has tested less."""
_MOST_RECOVERY_SECONDS: Final = 3.0
_AS_BEFORE_SECONDS: Final = 0.5
_NORMAL_RATE: Final = 20.0
_CALM_SECONDS: Final = 1.0
_CALLER: Final = {"answer_seconds": 2.0}
_MORE_MEMORY_BYTES: Final = 50 * 2**20
_PULSES_CORE: Final = 0
_CALLERS_CORE: Final = 1


async def run(case_run: CaseRun) -> None:
    """Find what Pulse bears, then offer it many times that, by new connections and kept ones."""
    if (psutil.cpu_count() or 1) < len({_PULSES_CORE, _CALLERS_CORE}):
        raise CaseUnavailable("a core for Pulse and another for its callers are wanted")
    if HAPROXY is None:
        raise CaseUnavailable("HAProxy is wanted")
    async with (
        case_run.deployment(
            apis=1, workers=1, readers=0, settings={"batch_size": _BATCH_SIZE}, caller=_CALLER
        ) as deployment,
        _on_cores(deployment),
    ):
        api = deployment.apis[0].port
        with haproxy(deployment.home, api, "/health/ready", below="/") as proxy:
            for keep in (False,) if case_run.short else (False, True):
                await _overload(
                    case_run, deployment, proxy.services_port, keep=keep, each=_ORDERS_EACH
                )
        await _overload(case_run, deployment, api, keep=False, each=1)
        await _forget_who_gave_up(case_run, deployment)


async def _forget_who_gave_up(case_run: CaseRun, deployment: Deployment) -> None:
    """Restart the API: the kernel may still bring it orders of callers that are long gone."""
    api = deployment.apis[0]
    case_run.require(await api.stop() == 0, "the API did not stop well")
    await deployment.start(api)


async def _overload(
    case_run: CaseRun, deployment: Deployment, port: int, *, keep: bool, each: int
) -> None:
    proxied = each > 1
    kind = f"{'behind HAProxy' if proxied else 'no proxy'}, {'kept' if keep else 'new'} connections"
    seconds = 3.0 if case_run.short else 5.0
    for times in _TIMES_TOO_MUCH[: case_run.times]:
        # right before each overload: the log grows, and the machine is not alike at all times
        await until_quiet(deployment.server.conninfo)
        plan = _plan(case_run, port, keep=keep, each=each, seconds=seconds, at_once=_AT_ONCE)
        _, peak = await _flood(case_run, deployment, plan)
        await until_quiet(deployment.server.conninfo)
        memory = deployment.apis[0].memory_bytes
        calm_at = time.monotonic()
        async with deployment.caller.load(rate=_NORMAL_RATE):
            await asyncio.sleep(_CALM_SECONDS)
            begun = time.monotonic()
            plan = _plan(case_run, port, keep=keep, each=each, seconds=seconds, rate=peak * times)
            outcome, rate = await _flood(case_run, deployment, plan)
            case_run.injected()
            await asyncio.sleep(_CALM_SECONDS)
        calm = quantile(_waits(deployment, calm_at, begun), 0.99) or 0.0
        recovered = _recovered_after(outcome, deployment, max(_AS_BEFORE_SECONDS, 2 * calm))
        case_run.recovered(recovered)
        grown = deployment.apis[0].memory_bytes - memory
        case_run.fact(_told(f"{kind}, {times}x", outcome, rate, peak, grown))
        case_run.require(
            grown < 0.2 * memory + _MORE_MEMORY_BYTES, f"{kind}, {times}x: {grown >> 20} MiB more"
        )
        if proxied:
            offered = _offered(outcome) / (times * peak)
            case_run.require_in_time(
                rate >= _LEAST_GOODPUT * peak,
                f"{kind}, {times}x: goodput {rate / peak:.0%} of peak",
            )
            case_run.require_in_time(
                offered >= _LEAST_OFFERED, f"{kind}, {times}x: only {offered:.0%} of that offered"
            )
            case_run.require_in_time(
                recovered < _MOST_RECOVERY_SECONDS, f"{kind}, {times}x: slow for {recovered:.2f} s"
            )
        waited = _waits(deployment, begun, outcome.ended)
        case_run.fact(
            f"  a caller beside it: p50 {quantile(waited, 0.5) or 0:.2f} s,"
            f" p99 {quantile(waited, 0.99) or 0:.2f} s; as before after {recovered:.2f} s"
        )


def _plan(case_run: CaseRun, port: int, *, each: int, **options: Any) -> Plan:
    name = f"flood_{case_run.random.getrandbits(64):x}"
    return Plan(port=port, name=name, headers=DESK, orders_each=each, **options)


async def _flood(case_run: CaseRun, deployment: Deployment, plan: Plan) -> tuple[Outcome, float]:
    """One flood and how many of its orders were accepted a second; every one must be stored.

    The worker is stopped meanwhile: how much it splits would change from flood to flood. A second
    is one of Pulse's core: what other processes of this machine took of it is left out.
    """
    (worker,) = deployment.of_kind("worker")
    case_run.require(await worker.stop() == 0, "the worker did not stop well")
    flooding = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.open_loop_load",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    sending = asyncio.ensure_future(flooding.communicate(msgspec.json.encode(plan)))
    await asyncio.sleep(_WARM_SECONDS)
    begun = _Reading.of(deployment)
    await asyncio.sleep(plan.seconds - _WARM_SECONDS)
    ended = _Reading.of(deployment)
    said, _ = await sending
    await deployment.start(worker)
    outcome = msgspec.json.decode(said, type=Outcome)
    await _require_stored(case_run, deployment, outcome)
    accepted = sum(begun.at <= at < ended.at for at in outcome.accepted_at)
    return outcome, accepted / (ended.core_seconds - begun.core_seconds)


class _Reading(msgspec.Struct, frozen=True):
    """When, and how long Pulse had its core until then: used by it or its Postgres, or idle."""

    at: float
    core_seconds: float

    @classmethod
    def of(cls, deployment: Deployment) -> Self:
        postmaster = _postmaster_of(deployment)
        used = 0.0
        for process in (psutil.Process(deployment.apis[0].pid), postmaster, *postmaster.children()):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                used += times.user + times.system
        core = psutil.cpu_times(percpu=True)[_PULSES_CORE]
        return cls(time.monotonic(), used + core.idle + core.iowait)


def _postmaster_of(deployment: Deployment) -> psutil.Process:
    assert isinstance(deployment.server, Server)
    return deployment.server.postmaster


async def _require_stored(case_run: CaseRun, deployment: Deployment, outcome: Outcome) -> None:
    rows = await deployment.server.fetch(
        "SELECT originator_id::text FROM stored_events WHERE originator_version = 1"
    )
    lost = set(outcome.accepted.values()) - {order_id for (order_id,) in rows}
    case_run.row.lost += len(lost)
    case_run.require(not lost, f"{len(lost)} of the flood's accepted orders are not stored")


def _waits(deployment: Deployment, begun: float, ended: float) -> list[float]:
    return [
        answer.seconds for answer in deployment.caller.answers if begun <= answer.sent_at < ended
    ]


def _recovered_after(outcome: Outcome, deployment: Deployment, as_before: float) -> float:
    """Seconds from the last flooding caller's going until whoever asks is answered as before."""
    slow = [
        answer.sent_at + answer.seconds - outcome.gone
        for answer in deployment.caller.answers
        if answer.sent_at >= outcome.ended and answer.seconds > as_before
    ]
    return max(0.0, *slow, 0.0)


def _offered(outcome: Outcome) -> float:
    return outcome.offered / (outcome.ended - outcome.begun)


def _told(what: str, outcome: Outcome, rate: float, peak: float, grown: int) -> str:
    statuses = outcome.statuses
    refused = statuses.get(503, 0)
    return (
        f"{what}: {_offered(outcome):.0f} orders/s offered,"
        f" {rate:.0f}/s accepted ({rate / peak:.0%} of the peak of {peak:.0f};"
        f" p50 {quantile(outcome.seconds, 0.5) or 0:.2f} s); of the requests {refused} told 503,"
        f" {statuses.get(GIVEN_UP, 0)} gave up after 2 s, {statuses.get(UNSENT, 0)} not sent,"
        f" {grown / 2**20:+.0f} MiB"
    )


@asynccontextmanager
async def _on_cores(deployment: Deployment) -> AsyncIterator[None]:
    """The API and Postgres share one core, so that one client can be too much for them."""
    postmaster = _postmaster_of(deployment)
    _pin(
        _PULSES_CORE,
        [deployment.apis[0].pid, postmaster.pid, *(c.pid for c in postmaster.children())],
    )
    before = os.sched_getaffinity(0)
    _pin(_CALLERS_CORE, [os.getpid()])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _pin(core: int, processes: Iterable[int]) -> None:
    for process in processes:
        for thread in psutil.Process(process).threads():
            os.sched_setaffinity(thread.id, {core})


CASE: Final = Case(
    name="overload",
    promise="open-loop load at 2, 5 and 10 times the peak, behind HAProxy and without: nothing "
    "accepted is lost and memory is flat; behind HAProxy at least 90 % of the peak is accepted and "
    "answers are as before 3 s after the load ends",
    at_least=3,
    short=0,  # a rate held against a rate wants a machine that does nothing else
    run=run,
)

"""Several times the load that Pulse can process, with HAProxy and without.

Pulse and Postgres share one core; HAProxy and the load generator share the other, because HAProxy
can shed load only while it has CPU time. Behind HAProxy each request is a batch of orders, so that
one core can offer ten times the peak and shed nine tenths of it: single orders cost HAProxy and the
generator nearly as much as they cost Pulse. Goodput and recovery are required behind HAProxy and
only reported without it.
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

from tests.faults.case import Case, CaseRun, Unsupported
from tests.faults.checks import until_quiet
from tests.faults.deployment import SERVICE_HEADERS, Deployment
from tests.faults.open_loop_load import TIMED_OUT, UNSENT, Outcome, Plan
from tests.faults.report import quantile
from tests.faults.server import Server
from tests.support.haproxy import HAPROXY, haproxy

_LOAD_FACTORS: Final = (10, 5, 2)
_CONCURRENT: Final = 64
"""Requests in flight at the peak: as many as HAProxy forwards."""
_ORDERS_PER_REQUEST: Final = 50
_BATCH_SIZE: Final = 500
"""Orders that the worker claims at a time, so that it splits the backlog in seconds."""
_WARM_SECONDS: Final = 1.5
_MIN_GOODPUT: Final = 0.9
"""As a share of the peak, behind HAProxy."""
_MIN_OFFERED: Final = 0.9
"""As a share of the intended rate; a generator that offers less does not test the overload."""
_MAX_RECOVERY_SECONDS: Final = 3.0
_NORMAL_LATENCY_SECONDS: Final = 0.5
_NORMAL_RATE: Final = 20.0
_BASELINE_SECONDS: Final = 1.0
_CALLER: Final = {"answer_seconds": 2.0}
_MAX_MEMORY_GROWTH_BYTES: Final = 50 * 2**20
_PULSES_CORE: Final = 0
_CALLERS_CORE: Final = 1


async def run(case_run: CaseRun) -> None:
    """Measure the peak rate, then offer multiples of it, over new and keep-alive connections."""
    if (psutil.cpu_count() or 1) < len({_PULSES_CORE, _CALLERS_CORE}):
        raise Unsupported("needs two cores: one for Pulse, one for its callers")
    if HAPROXY is None:
        raise Unsupported("HAProxy is not installed")
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
                    case_run, deployment, proxy.services_port, keep=keep, each=_ORDERS_PER_REQUEST
                )
        await _overload(case_run, deployment, api, keep=False, each=1)
        await _restart_api(case_run, deployment)


async def _restart_api(case_run: CaseRun, deployment: Deployment) -> None:
    """Drop requests of callers that timed out: the kernel may still deliver them to the API."""
    api = deployment.apis[0]
    case_run.require(await api.stop() == 0, "the API did not exit with code 0")
    await deployment.start(api)


async def _overload(
    case_run: CaseRun, deployment: Deployment, port: int, *, keep: bool, each: int
) -> None:
    proxied = each > 1
    kind = (
        f"{'behind HAProxy' if proxied else 'without proxy'},"
        f" {'keep-alive' if keep else 'new'} connections"
    )
    seconds = 3.0 if case_run.short else 5.0
    for times in _LOAD_FACTORS[: case_run.times]:
        # Measure the peak right before each overload: it changes with the log and the machine.
        await until_quiet(deployment.server.conninfo)
        plan = _plan(
            case_run, port, keep_alive=keep, each=each, seconds=seconds, concurrency=_CONCURRENT
        )
        _, peak = await _flood(case_run, deployment, plan)
        await until_quiet(deployment.server.conninfo)
        memory = deployment.apis[0].memory_bytes
        baseline_at = time.monotonic()
        async with deployment.caller.load(rate=_NORMAL_RATE):
            await asyncio.sleep(_BASELINE_SECONDS)
            begun = time.monotonic()
            plan = _plan(
                case_run, port, keep_alive=keep, each=each, seconds=seconds, rate=peak * times
            )
            outcome, rate = await _flood(case_run, deployment, plan)
            case_run.injected()
            await asyncio.sleep(_BASELINE_SECONDS)
        baseline = quantile(_latencies(deployment, baseline_at, begun), 0.99) or 0.0
        recovered = _recovered_after(
            outcome, deployment, max(_NORMAL_LATENCY_SECONDS, 2 * baseline)
        )
        case_run.recovered(recovered)
        grown = deployment.apis[0].memory_bytes - memory
        case_run.fact(_summary(f"{kind}, {times}x", outcome, rate, peak, grown))
        case_run.require(
            grown < 0.2 * memory + _MAX_MEMORY_GROWTH_BYTES,
            f"{kind}, {times}x: memory grew by {grown >> 20} MiB",
        )
        if proxied:
            offered = _offered(outcome) / (times * peak)
            case_run.require_in_time(
                rate >= _MIN_GOODPUT * peak,
                f"{kind}, {times}x: goodput {rate / peak:.0%} of peak",
            )
            case_run.require_in_time(
                offered >= _MIN_OFFERED,
                f"{kind}, {times}x: only {offered:.0%} of the intended rate offered",
            )
            case_run.require_in_time(
                recovered < _MAX_RECOVERY_SECONDS,
                f"{kind}, {times}x: normal again after {recovered:.2f} s",
            )
        latencies = _latencies(deployment, begun, outcome.ended)
        case_run.fact(
            f"another caller at the same time: p50 {quantile(latencies, 0.5) or 0:.2f} s,"
            f" p99 {quantile(latencies, 0.99) or 0:.2f} s; normal again after {recovered:.2f} s"
        )


def _plan(case_run: CaseRun, port: int, *, each: int, **options: Any) -> Plan:
    name = f"flood_{case_run.random.getrandbits(64):x}"
    return Plan(port=port, name=name, headers=SERVICE_HEADERS, orders_per_request=each, **options)


async def _flood(case_run: CaseRun, deployment: Deployment, plan: Plan) -> tuple[Outcome, float]:
    """Run one flood and check that its accepted orders are stored.

    Returns its outcome, and the orders accepted per second of time on Pulse's core, less the time
    that other processes used. The worker is stopped meanwhile: its share would vary.
    """
    (worker,) = deployment.of_kind("worker")
    case_run.require(await worker.stop() == 0, "the worker did not exit with code 0")
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
    output, _ = await sending
    await deployment.start(worker)
    outcome = msgspec.json.decode(output, type=Outcome)
    await _require_stored(case_run, deployment, outcome)
    accepted = sum(begun.at <= at < ended.at for at in outcome.accepted_at)
    return outcome, accepted / (ended.core_seconds - begun.core_seconds)


class _Reading(msgspec.Struct, frozen=True):
    """The seconds until `at` in which Pulse's core was idle, or ran Pulse or Postgres."""

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


def _latencies(deployment: Deployment, begun: float, ended: float) -> list[float]:
    return [
        answer.seconds for answer in deployment.caller.answers if begun <= answer.sent_at < ended
    ]


def _recovered_after(outcome: Outcome, deployment: Deployment, normal_seconds: float) -> float:
    """Seconds from the end of the flood until no answer takes longer than `normal_seconds`."""
    slow = [
        answer.sent_at + answer.seconds - outcome.all_done
        for answer in deployment.caller.answers
        if answer.sent_at >= outcome.ended and answer.seconds > normal_seconds
    ]
    return max(0.0, *slow, 0.0)


def _offered(outcome: Outcome) -> float:
    return outcome.offered / (outcome.ended - outcome.begun)


def _summary(what: str, outcome: Outcome, rate: float, peak: float, grown: int) -> str:
    statuses = outcome.statuses
    refused = statuses.get(503, 0)
    return (
        f"{what}: {_offered(outcome):.0f} orders/s offered,"
        f" {rate:.0f}/s accepted ({rate / peak:.0%} of the peak of {peak:.0f};"
        f" p50 {quantile(outcome.seconds, 0.5) or 0:.2f} s); requests: {refused} got 503,"
        f" {statuses.get(TIMED_OUT, 0)} timed out after 2 s, {statuses.get(UNSENT, 0)} not sent;"
        f" memory {grown / 2**20:+.0f} MiB"
    )


@asynccontextmanager
async def _on_cores(deployment: Deployment) -> AsyncIterator[None]:
    """Pin the API and Postgres to one core, so that one client can overload them."""
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
    promise="Open-loop load at 2, 5 and 10 times the peak rate, with HAProxy and without: no "
    "accepted order is lost, and memory stays flat. Behind HAProxy at least 90 % of the peak rate "
    "is accepted, and latency is normal again 3 s after the load ends",
    at_least=3,
    short=0,  # comparing two rates needs an otherwise idle machine
    run=run,
)

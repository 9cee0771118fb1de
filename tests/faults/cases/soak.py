"""Half the peak load for an hour, to find leaks, bloat and growing latency."""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from tests.faults.case import Case, CaseRun
from tests.faults.deployment import Deployment
from tests.faults.report import quantile

SAMPLES: Final = Path("soak.json")
"""The file for the samples, which the chart of docs/explanation/reliability.md shows."""

_PEAK_SECONDS: Final = 20.0
_PEAK_CALLERS: Final = 32
_SAMPLE_SECONDS: Final = 10.0
_MINUTE_SECONDS: Final = 60.0
_TABLES: Final = ("order_queue", "pending_orders", "due_orders", "notification_tracking")


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Measurements at one moment; latencies are of the orders since the last sample."""

    minutes: float
    orders: int
    memory_mib: float
    open_files: int
    dead_tuples: int
    post_p99_ms: float
    completed_p99_ms: float


async def run(case_run: CaseRun) -> None:
    """Load a deployment for `times` minutes at half its peak rate; sample every ten seconds."""
    async with case_run.deployment(
        apis=2,
        workers=1,
        readers=1,
        settings={"batch_size": 50},
        caller={"minutes": range(10, 1441)},
    ) as deployment:
        rate = case_run.rate or await _peak(deployment) / 2
        case_run.fact(f"{rate:,.0f} orders per second for {case_run.times} minutes")
        samples: list[Sample] = []
        async with deployment.caller.load(rate=rate):
            begun = time.monotonic()
            while time.monotonic() < begun + case_run.times * _MINUTE_SECONDS:
                await asyncio.sleep(_SAMPLE_SECONDS)
                samples.append(await _sample(deployment, begun))
                SAMPLES.write_bytes(msgspec.json.encode(samples))
                if len(samples) % 30 == 0:
                    print(f"  {samples[-1]}")
        case_run.injected(case_run.times)
    _check_flat(case_run, samples)


async def _peak(deployment: Deployment) -> float:
    """Orders per second of a closed-loop load."""
    until = time.monotonic() + _PEAK_SECONDS

    async def place_in_sequence() -> None:
        while time.monotonic() < until:
            await deployment.caller.place()

    begun = time.monotonic()
    async with asyncio.TaskGroup() as callers:
        for _ in range(_PEAK_CALLERS):
            callers.create_task(place_in_sequence())
    return deployment.caller.rate_between(begun, time.monotonic())


async def _sample(deployment: Deployment, begun: float) -> Sample:
    since = time.monotonic() - _SAMPLE_SECONDS
    answers = deployment.caller.answers
    first = next((n for n in range(len(answers), 0, -1) if answers[n - 1].sent_at < since), 0)
    dead = await deployment.server.fetch(
        "SELECT coalesce(sum(n_dead_tup), 0) FROM pg_stat_user_tables WHERE relname = ANY (%s)",
        list(_TABLES),
    )
    completed = await deployment.server.fetch(
        """SELECT coalesce(percentile_cont(0.99) WITHIN GROUP (ORDER BY
                      EXTRACT(EPOCH FROM o.recorded_at - c.recorded_at)), 0)::float8
             FROM stored_events o
             JOIN stored_events c USING (originator_id)
            WHERE o.originator_version = 2 AND c.originator_version = 1
              AND o.notification_id > (SELECT max(notification_id) FROM stored_events) - %s""",
        2 * (len(answers) - first),
    )
    recent = answers[first:]
    answers.clear()  # millions of them would slow the caller down and distort the latencies
    return Sample(
        minutes=round((time.monotonic() - begun) / _MINUTE_SECONDS, 2),
        orders=len(deployment.caller.placed),
        memory_mib=round(sum(member.memory_bytes for member in deployment.members) / 2**20, 1),
        open_files=sum(member.open_files for member in deployment.members),
        dead_tuples=int(dead[0][0]),
        post_p99_ms=_milliseconds(quantile([a.seconds for a in recent], 0.99) or 0.0),
        completed_p99_ms=_milliseconds(completed[0][0]),
    )


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _check_flat(case_run: CaseRun, samples: Sequence[Sample]) -> None:
    """Check that no median of the last third exceeds that of the second, apart from noise."""
    figures: list[tuple[str, Callable[[Sample], float], float, float]] = [
        ("memory, MiB", lambda s: s.memory_mib, 1.1, 10),
        ("open files", lambda s: s.open_files, 1.0, 10),
        ("dead tuples", lambda s: s.dead_tuples, 1.5, 5000),
        ("p99 of the answer, ms", lambda s: s.post_p99_ms, 1.5, 20),
        ("p99 until COMPLETED, ms", lambda s: s.completed_p99_ms, 1.5, 20),
    ]
    third = len(samples) // 3
    for name, of, factor, allowance in figures:
        before = median(map(of, samples[third : 2 * third]))
        after = median(map(of, samples[2 * third :]))
        case_run.fact(f"{name}: median {before:g} in the second third, {after:g} in the last")
        flat = after <= factor * before + allowance
        case_run.require(flat, f"{name} grew from {before:g} to {after:g}")


CASE: Final = Case(
    name="soak",
    promise="An hour at half the peak load: memory, open files, dead tuples and p99 stay flat",
    at_least=60,
    short=0,
    run=run,
)

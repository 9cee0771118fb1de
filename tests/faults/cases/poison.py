"""Poisoned events under load: each parks its own order and slows nobody else down."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Final

import aiohttp

from pulse.domain import OrderCreated
from pulse.eventstore import LOG_LOCK
from tests.faults.case import Case, CaseRun
from tests.faults.deployment import DESK, Deployment
from tests.support.events import MAPPER, order_created
from tests.support.processes import ROOT, environment

_RATE: Final = 100.0
_APART_SECONDS: Final = 1.0
_MOST_TIMES: Final = 1.5
_NOISE_SECONDS: Final = 0.05
_P99: Final = """
SELECT percentile_cont(0.99) WITHIN GROUP (
           ORDER BY EXTRACT(EPOCH FROM o.recorded_at - c.recorded_at))::float8, count(*)
  FROM stored_events c JOIN stored_events o USING (originator_id)
 WHERE c.originator_version = 1 AND o.originator_version = 2
   AND c.notification_id > %s AND c.notification_id <= %s"""


async def run(case_run: CaseRun) -> None:
    """The same load without poison and with it; then the events are corrected and retried."""
    async with (
        case_run.deployment(apis=2, workers=1, caller={"gives_up": 0.0}) as deployment,
        deployment.caller.load(rate=_RATE),
    ):
        await asyncio.sleep(2)
        start = await _end_of_log(deployment)
        await asyncio.sleep(case_run.times * _APART_SECONDS)
        middle = await _end_of_log(deployment)
        poisoned = [order_created(f"poisoned-{n}") for n in range(case_run.times)]
        for created in poisoned:
            await _poison(deployment, created)
            case_run.injected()
            await asyncio.sleep(_APART_SECONDS)
        end = await _end_of_log(deployment)
        await asyncio.sleep(2)
        ((before, _),) = await deployment.server.fetch(_P99, start, middle)
        ((during, orders),) = await deployment.server.fetch(_P99, middle, end)
        parked = await _until_parked(deployment, case_run.times)
        await _mend(deployment, poisoned)
    case_run.fact(
        f"p99 until the outcome: {before * 1000:.0f} ms without poison, {during * 1000:.0f} ms with"
        f" it ({orders:,} orders)"
    )
    case_run.require(parked == case_run.times, f"readiness counts {parked} parked orders")
    case_run.require_in_time(
        during <= _MOST_TIMES * before + _NOISE_SECONDS, f"p99 rose to {during / before:.1f} times"
    )


async def _end_of_log(deployment: Deployment) -> int:
    rows = await deployment.server.fetch("SELECT max(notification_id) FROM stored_events")
    return int(rows[0][0])


async def _poison(deployment: Deployment, created: OrderCreated) -> None:
    """An OrderCreated whose bytes say nothing, appended under the lock of all appends."""
    await deployment.server.fetch(
        """INSERT INTO stored_events (originator_id, originator_version, topic, state)
           SELECT %s, 1, %s, '{"instrument":'
            WHERE (SELECT pg_advisory_xact_lock(%s)) IS NOT NULL""",
        created.originator_id,
        MAPPER.to_stored_event(created).topic,
        LOG_LOCK,
    )


async def _until_parked(deployment: Deployment, count: int) -> int:
    """How many parked orders readiness counts, once those are all or a while has gone by."""
    deadline = time.monotonic() + 20
    while (found := await _parked(deployment)) != count and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    return found


async def _parked(deployment: Deployment) -> int:
    async with (
        aiohttp.ClientSession(headers=DESK) as http,
        http.get(f"{deployment.apis[0].url}/health/ready") as answer,
    ):
        found: int = (await answer.json())["parked_orders"]
        return found


async def _mend(deployment: Deployment, poisoned: Sequence[OrderCreated]) -> None:
    """By hand, past the log's guard, as nobody should; then `pulse projections retry`."""
    await deployment.server.fetch("ALTER TABLE stored_events DISABLE TRIGGER ALL")
    for created in poisoned:
        await deployment.server.fetch(
            "UPDATE stored_events SET state = %s WHERE originator_id = %s",
            MAPPER.to_stored_event(created).state,
            created.originator_id,
        )
    await deployment.server.fetch("ALTER TABLE stored_events ENABLE TRIGGER ALL")
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "pulse.cli", "projections", "retry", "--all"],
        cwd=ROOT,
        env=environment({"database_url": deployment.server.url}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


CASE: Final = Case(
    name="poison",
    promise="an event that cannot be read parks its own order, readiness counts it, the others' "
    "p99 is as before; corrected, `pulse projections retry` takes it up again",
    at_least=10,
    short=2,
    run=run,
)

"""Poisoned events under load: each one parks its order and does not delay other orders."""

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
from tests.faults.deployment import SERVICE_HEADERS, Deployment
from tests.support.events import MAPPER, order_created
from tests.support.processes import ROOT, environment

_ORDERS_PER_SECOND: Final = 100.0
_INTERVAL_SECONDS: Final = 1.0
_MAX_RATIO: Final = 1.5
_NOISE_SECONDS: Final = 0.05
_P99: Final = """
SELECT percentile_cont(0.99) WITHIN GROUP (
           ORDER BY EXTRACT(EPOCH FROM o.recorded_at - c.recorded_at))::float8, count(*)
  FROM stored_events c JOIN stored_events o USING (originator_id)
 WHERE c.originator_version = 1 AND o.originator_version = 2
   AND c.notification_id > %s AND c.notification_id <= %s"""


async def run(case_run: CaseRun) -> None:
    """The same load without and with poisoned events; then correct the events and retry them.

    A correction alters a sealed event, so `pulse verify` must report each one as ALTERED. It may
    also report the history of the queue, which counted the event before the correction.
    """
    expectations = {"findings": {"ALTERED": case_run.times, "HISTORY": None}}
    async with (
        case_run.deployment(
            apis=2, workers=1, caller={"abandon_share": 0.0}, expectations=expectations
        ) as deployment,
        deployment.caller.load(rate=_ORDERS_PER_SECOND),
    ):
        await asyncio.sleep(2)
        start = await _end_of_log(deployment)
        await asyncio.sleep(case_run.times * _INTERVAL_SECONDS)
        middle = await _end_of_log(deployment)
        poisoned = [order_created(f"poisoned-{n}") for n in range(case_run.times)]
        for created in poisoned:
            await _poison(deployment, created)
            case_run.injected()
            await asyncio.sleep(_INTERVAL_SECONDS)
        end = await _end_of_log(deployment)
        await asyncio.sleep(2)
        ((before, _),) = await deployment.server.fetch(_P99, start, middle)
        ((during, orders),) = await deployment.server.fetch(_P99, middle, end)
        parked = await _until_parked(deployment, case_run.times)
        await _correct(deployment, poisoned)
    case_run.fact(
        f"p99 from creation to outcome: {before * 1000:.0f} ms without poisoned events,"
        f" {during * 1000:.0f} ms with them ({orders:,} orders)"
    )
    case_run.require(parked == case_run.times, f"readiness reports {parked} parked orders")
    case_run.require_in_time(
        during <= _MAX_RATIO * before + _NOISE_SECONDS, f"p99 rose to {during / before:.1f} times"
    )


async def _end_of_log(deployment: Deployment) -> int:
    rows = await deployment.server.fetch("SELECT max(notification_id) FROM stored_events")
    return int(rows[0][0])


async def _poison(deployment: Deployment, created: OrderCreated) -> None:
    """Append an OrderCreated with invalid JSON, under the append lock."""
    await deployment.server.fetch(
        """INSERT INTO stored_events (originator_id, originator_version, topic, state)
           SELECT %s, 1, %s, '{"instrument":'
            WHERE (SELECT pg_advisory_xact_lock(%s)) IS NOT NULL""",
        created.originator_id,
        MAPPER.to_stored_event(created).topic,
        LOG_LOCK,
    )


async def _until_parked(deployment: Deployment, count: int) -> int:
    """Wait until readiness reports `count` parked orders, at most 20 s; returns the number."""
    deadline = time.monotonic() + 20
    while (found := await _parked(deployment)) != count and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    return found


async def _parked(deployment: Deployment) -> int:
    async with (
        aiohttp.ClientSession(headers=SERVICE_HEADERS) as http,
        http.get(f"{deployment.apis[0].url}/health/ready") as answer,
    ):
        body = await answer.json()
    found: int = (body if answer.status == 200 else body["error"]["details"])["parked_orders"]
    return found


async def _correct(deployment: Deployment, poisoned: Sequence[OrderCreated]) -> None:
    """Correct the events in the log with its triggers disabled; then `pulse projections retry`."""
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
    promise="An event that cannot be decoded parks its order, readiness reports it, and the p99 of "
    "other orders does not change. Once the event is corrected, `pulse projections retry` "
    "processes it",
    at_least=10,
    short=2,
    run=run,
)

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
from tests.faults.house import DESK, House
from tests.faults.scene import Case, Scene
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


async def run(scene: Scene) -> None:
    """The same load without poison and with it; then the events are corrected and retried."""
    async with (
        scene.house(apis=2, workers=1, caller={"gives_up": 0.0}) as house,
        house.caller.load(rate=_RATE),
    ):
        await asyncio.sleep(2)
        start = await _end_of_log(house)
        await asyncio.sleep(scene.times * _APART_SECONDS)
        middle = await _end_of_log(house)
        poisoned = [order_created(f"poisoned-{n}") for n in range(scene.times)]
        for created in poisoned:
            await _poison(house, created)
            scene.injected()
            await asyncio.sleep(_APART_SECONDS)
        end = await _end_of_log(house)
        await asyncio.sleep(2)
        ((before, _),) = await house.server.fetch(_P99, start, middle)
        ((during, orders),) = await house.server.fetch(_P99, middle, end)
        parked = await _until_parked(house, scene.times)
        await _mend(house, poisoned)
    scene.fact(
        f"p99 until the outcome: {before * 1000:.0f} ms without poison, {during * 1000:.0f} ms with"
        f" it ({orders:,} orders)"
    )
    scene.require(parked == scene.times, f"readiness counts {parked} parked orders")
    scene.require_in_time(
        during <= _MOST_TIMES * before + _NOISE_SECONDS, f"p99 rose to {during / before:.1f} times"
    )


async def _end_of_log(house: House) -> int:
    rows = await house.server.fetch("SELECT max(notification_id) FROM stored_events")
    return int(rows[0][0])


async def _poison(house: House, created: OrderCreated) -> None:
    """An OrderCreated whose bytes say nothing, appended under the lock of all appends."""
    await house.server.fetch(
        """INSERT INTO stored_events (originator_id, originator_version, topic, state)
           SELECT %s, 1, %s, '{"instrument":'
            WHERE (SELECT pg_advisory_xact_lock(%s)) IS NOT NULL""",
        created.originator_id,
        MAPPER.to_stored_event(created).topic,
        LOG_LOCK,
    )


async def _until_parked(house: House, count: int) -> int:
    """How many parked orders readiness counts, once those are all or a while has gone by."""
    deadline = time.monotonic() + 20
    while (found := await _parked(house)) != count and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    return found


async def _parked(house: House) -> int:
    async with (
        aiohttp.ClientSession(headers=DESK) as http,
        http.get(f"{house.apis[0].url}/health/ready") as answer,
    ):
        found: int = (await answer.json())["parked_orders"]
        return found


async def _mend(house: House, poisoned: Sequence[OrderCreated]) -> None:
    """By hand, past the log's guard, as nobody should; then `pulse projections retry`."""
    await house.server.fetch("ALTER TABLE stored_events DISABLE TRIGGER ALL")
    for created in poisoned:
        await house.server.fetch(
            "UPDATE stored_events SET state = %s WHERE originator_id = %s",
            MAPPER.to_stored_event(created).state,
            created.originator_id,
        )
    await house.server.fetch("ALTER TABLE stored_events ENABLE TRIGGER ALL")
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "pulse.cli", "projections", "retry", "--all"],
        cwd=ROOT,
        env=environment({"database_url": house.server.url}),
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

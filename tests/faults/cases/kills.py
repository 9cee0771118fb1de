"""kill -9 of APIs, workers, whoever projects, and gateways, in the midst of their work."""

import asyncio
import time
from typing import Final

from tests.faults.house import House
from tests.faults.member import Member
from tests.faults.report import quantile
from tests.faults.scene import Case, Scene

_ORDERS_A_KILL: Final = 200
_RATE: Final = 150.0
_MOST_RECOVERY_SECONDS: Final = 2.0


async def run(scene: Scene) -> None:
    """Kill one member after another under load; each is started again in its place."""
    async with (
        scene.house(apis=2, workers=2, gateways=2, everything=1) as house,
        house.caller.load(rate=_RATE),
    ):
        for _ in range(scene.times):
            await _kill_one(scene, house)
        missing = scene.times * _ORDERS_A_KILL - len(house.caller.answers)
        await asyncio.sleep(max(0.0, missing / _RATE))
    p99 = quantile(scene.row.recoveries, 0.99) or 0.0
    scene.require(p99 < _MOST_RECOVERY_SECONDS, f"recovery p99 {p99:.2f} s")


async def _kill_one(scene: Scene, house: House) -> None:
    await asyncio.sleep(scene.random.uniform(0.1, 0.6))
    victim: Member = scene.random.choice(house.members)
    victim.kill()
    killed_at = time.monotonic()
    before = await house.server.fetch("SELECT max(notification_id) FROM stored_events")
    scene.injected()
    await _until_settled(house, before[0][0])
    scene.recovered(time.monotonic() - killed_at)
    await house.start(victim)


async def _until_settled(house: House, position: int) -> None:
    """Every order created up to there has its outcome: what the dead one held was taken over."""
    async with asyncio.timeout(30):
        while True:
            rows = await house.server.fetch(
                """SELECT count(*) FROM order_queue
                    WHERE state = 'PENDING' AND created_position <= %s
                    UNION ALL
                   SELECT count(*) FROM notification_tracking
                    WHERE application_name = 'order_queue' AND notification_id < %s""",
                position,
                position,
            )
            if not any(count for (count,) in rows):
                return
            await asyncio.sleep(0.02)


CASE: Final = Case(
    name="kills",
    promise="kill -9 of API, worker, projecting process or gateway at work: nothing lost, doubled "
    "or skipped; no order FAILED for it; all orders of before settled by others, p99 < 2 s",
    at_least=50,
    short=8,
    run=run,
)

"""Transactions that somebody forgot: idle for a minute, reading or writing."""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Final, LiteralString

import aiohttp
import psycopg

from tests.faults.house import DESK, House
from tests.faults.report import quantile
from tests.faults.scene import Case, Scene

_RATE: Final = 60.0
_HELD_SECONDS: Final = 60.0
_SHORT_SECONDS: Final = 13.0
_SHARE: Final = 0.95
_MOST_TIMES: Final = 2.0
_NOISE_SECONDS: Final = 0.05

_HARMLESS: Final[tuple[LiteralString, ...]] = (
    # Read-only, with a snapshot of log and view that keeps vacuum from all that dies meanwhile.
    """SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;
       SELECT count(*) FROM stored_events; SELECT count(*) FROM order_queue_status""",
    # Writing elsewhere: the oldest transaction id of all, for whoever would wait for those.
    "CREATE TABLE forgotten (n bigint); INSERT INTO forgotten SELECT txid_current()",
)
_IN_THE_WAY: Final[tuple[LiteralString, ...]] = (
    "SELECT FROM notification_tracking FOR UPDATE",
    "SELECT FROM order_queue WHERE state = 'PENDING' FOR UPDATE",
)
"""Those hold rows that the projection must write: it waits, and says so."""


async def run(scene: Scene) -> None:
    """Two transactions that must disturb nobody, then two that the projection must wait for."""
    seconds = _SHORT_SECONDS if scene.short else _HELD_SECONDS
    async with (
        scene.house(apis=2, workers=1, caller={"gives_up": 0.0}) as house,
        house.caller.load(rate=_RATE),
    ):
        usual = await _p99_and_rate(house, 5)
        async with AsyncExitStack() as stack:
            await _hold(house, stack, _HARMLESS)
            harmless = await _p99_and_rate(house, seconds)
            ready = await _projection_fault(house)
        scene.injected(len(_HARMLESS))
        scene.require(ready is None, f"not ready beside harmless transactions: {ready}")
        async with AsyncExitStack() as stack:
            await _hold(house, stack, _IN_THE_WAY)
            in_the_way = await _p99_and_rate(house, seconds)
            behind = await _projection_fault(house)
        scene.injected(len(_IN_THE_WAY))
        released = time.monotonic()
        end = await house.server.fetch("SELECT max(notification_id) FROM stored_events")
        await _until_projected(house, end[0][0])
        scene.recovered(time.monotonic() - released)
        scene.require(behind is not None, "the projection stood still and readiness did not say so")
    await _judge(scene, usual, {"harmless": harmless, "in the way": in_the_way})
    scene.fact(f"readiness meanwhile: {behind}")


async def _hold(house: House, stack: AsyncExitStack, statements: tuple[LiteralString, ...]) -> None:
    """Begin each in a session of its own that then does nothing."""
    for statement in statements:
        connection = await psycopg.AsyncConnection.connect(house.server.conninfo)
        await stack.enter_async_context(connection)
        stack.push_async_callback(connection.rollback)
        await connection.execute(statement)


async def _p99_and_rate(house: House, seconds: float) -> tuple[float, float]:
    """The p99 of answers, in seconds, and the orders accepted a second, from now on."""
    begun = time.monotonic()
    await asyncio.sleep(seconds)
    answers = [a.seconds for a in house.caller.answers if a.sent_at >= begun]
    return quantile(answers, 0.99) or 0.0, house.caller.rate_between(begun, time.monotonic())


async def _projection_fault(house: House) -> str | None:
    async with (
        aiohttp.ClientSession(headers=DESK) as http,
        http.get(f"{house.apis[0].url}/health/ready") as answer,
    ):
        told = await answer.json()
    if answer.status == 200:
        return None
    return str(told["error"]["details"])


async def _until_projected(house: House, position: int) -> None:
    async with asyncio.timeout(60):
        while True:
            rows = await house.server.fetch(
                "SELECT notification_id FROM notification_tracking"
                " WHERE application_name = 'order_queue'"
            )
            if rows[0][0] >= position:
                return
            await asyncio.sleep(0.02)


async def _judge(
    scene: Scene, usual: tuple[float, float], held: dict[str, tuple[float, float]]
) -> None:
    p99, rate = usual
    scene.fact(f"before: {rate:.0f} orders a second, p99 of the answer {p99 * 1000:.0f} ms")
    for name, (held_p99, held_rate) in held.items():
        scene.fact(f"{name}: {held_rate:.0f} a second, p99 {held_p99 * 1000:.0f} ms")
        scene.require(held_rate >= _SHARE * rate, f"{name}: {held_rate / rate:.0%} of the rate")
        bound = _MOST_TIMES * p99 + _NOISE_SECONDS
        scene.require(held_p99 <= bound, f"{name}: p99 rose from {p99:.3f} to {held_p99:.3f} s")


CASE: Final = Case(
    name="held_transactions",
    promise="a transaction held open for 60 s, read-only or writing: appends go on as before; "
    "where it holds what the projection writes, readiness says how far behind that is, and the "
    "projection catches up",
    at_least=4,
    short=0,
    run=run,
)

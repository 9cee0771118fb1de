"""Transactions that somebody forgot: idle for a minute, reading or writing."""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Final, LiteralString

import aiohttp
import psycopg

from tests.faults.case import Case, CaseRun
from tests.faults.deployment import DESK, Deployment
from tests.faults.report import quantile

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


async def run(case_run: CaseRun) -> None:
    """Two transactions that must disturb nobody, then two that the projection must wait for."""
    seconds = _SHORT_SECONDS if case_run.short else _HELD_SECONDS
    async with (
        case_run.deployment(apis=2, workers=1, caller={"gives_up": 0.0}) as deployment,
        deployment.caller.load(rate=_RATE),
    ):
        usual = await _p99_and_rate(deployment, 5)
        async with AsyncExitStack() as stack:
            await _hold(deployment, stack, _HARMLESS)
            harmless = await _p99_and_rate(deployment, seconds)
            ready = await _projection_fault(deployment)
        case_run.injected(len(_HARMLESS))
        case_run.require(ready is None, f"not ready beside harmless transactions: {ready}")
        async with AsyncExitStack() as stack:
            await _hold(deployment, stack, _IN_THE_WAY)
            in_the_way = await _p99_and_rate(deployment, seconds)
            behind = await _projection_fault(deployment)
        case_run.injected(len(_IN_THE_WAY))
        released = time.monotonic()
        end = await deployment.server.fetch("SELECT max(notification_id) FROM stored_events")
        await _until_projected(deployment, end[0][0])
        case_run.recovered(time.monotonic() - released)
        case_run.require(
            behind is not None, "the projection stood still and readiness did not say so"
        )
    await _judge(case_run, usual, {"harmless": harmless, "in the way": in_the_way})
    case_run.fact(f"readiness meanwhile: {behind}")


async def _hold(
    deployment: Deployment, stack: AsyncExitStack, statements: tuple[LiteralString, ...]
) -> None:
    """Begin each in a session of its own that then does nothing."""
    for statement in statements:
        connection = await psycopg.AsyncConnection.connect(deployment.server.conninfo)
        await stack.enter_async_context(connection)
        stack.push_async_callback(connection.rollback)
        await connection.execute(statement)


async def _p99_and_rate(deployment: Deployment, seconds: float) -> tuple[float, float]:
    """The p99 of answers, in seconds, and the orders accepted a second, from now on."""
    begun = time.monotonic()
    await asyncio.sleep(seconds)
    answers = [a.seconds for a in deployment.caller.answers if a.sent_at >= begun]
    return quantile(answers, 0.99) or 0.0, deployment.caller.rate_between(begun, time.monotonic())


async def _projection_fault(deployment: Deployment) -> str | None:
    async with (
        aiohttp.ClientSession(headers=DESK) as http,
        http.get(f"{deployment.apis[0].url}/health/ready") as answer,
    ):
        told = await answer.json()
    if answer.status == 200:
        return None
    return str(told["error"]["details"])


async def _until_projected(deployment: Deployment, position: int) -> None:
    async with asyncio.timeout(60):
        while True:
            rows = await deployment.server.fetch(
                "SELECT notification_id FROM notification_tracking"
                " WHERE application_name = 'order_queue'"
            )
            if rows[0][0] >= position:
                return
            await asyncio.sleep(0.02)


async def _judge(
    case_run: CaseRun, usual: tuple[float, float], held: dict[str, tuple[float, float]]
) -> None:
    p99, rate = usual
    case_run.fact(f"before: {rate:.0f} orders a second, p99 of the answer {p99 * 1000:.0f} ms")
    for name, (held_p99, held_rate) in held.items():
        case_run.fact(f"{name}: {held_rate:.0f} a second, p99 {held_p99 * 1000:.0f} ms")
        case_run.require(held_rate >= _SHARE * rate, f"{name}: {held_rate / rate:.0%} of the rate")
        bound = _MOST_TIMES * p99 + _NOISE_SECONDS
        case_run.require(held_p99 <= bound, f"{name}: p99 rose from {p99:.3f} to {held_p99:.3f} s")


CASE: Final = Case(
    name="held_transactions",
    promise="a transaction held open for 60 s, read-only or writing: appends go on as before; "
    "where it holds what the projection writes, readiness says how far behind that is, and the "
    "projection catches up",
    at_least=4,
    short=0,
    run=run,
)

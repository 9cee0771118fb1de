"""Transactions of other clients that stay open and idle for a minute."""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Final, LiteralString

import aiohttp
import psycopg

from tests.faults.case import Case, CaseRun
from tests.faults.deployment import SERVICE_HEADERS, Deployment
from tests.faults.report import quantile

_ORDERS_PER_SECOND: Final = 60.0
_HELD_SECONDS: Final = 60.0
_SHORT_SECONDS: Final = 13.0
_SHARE: Final = 0.95
_MAX_RATIO: Final = 2.0
_NOISE_SECONDS: Final = 0.05

_UNRELATED: Final[tuple[LiteralString, ...]] = (
    # Read-only: its snapshot of log and read model keeps vacuum from removing dead tuples.
    """SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;
       SELECT count(*) FROM stored_events; SELECT count(*) FROM order_queue_status""",
    # Writes to another table. Its transaction id is the oldest one; no reader may wait for its end.
    "CREATE TABLE unrelated (n bigint); INSERT INTO unrelated SELECT txid_current()",
)
_BLOCKING: Final[tuple[LiteralString, ...]] = (
    "SELECT FROM notification_tracking FOR UPDATE",
    "SELECT FROM order_queue WHERE state = 'PENDING' FOR UPDATE",
)
"""They lock rows that the projection writes, so it must wait and readiness must report that."""


async def run(case_run: CaseRun) -> None:
    """Two transactions that must have no effect, then two that block the projection."""
    seconds = _SHORT_SECONDS if case_run.short else _HELD_SECONDS
    async with (
        case_run.deployment(apis=2, workers=1, caller={"abandon_share": 0.0}) as deployment,
        deployment.caller.load(rate=_ORDERS_PER_SECOND),
    ):
        baseline = await _p99_and_rate(deployment, 5)
        async with AsyncExitStack() as stack:
            await _hold(deployment, stack, _UNRELATED)
            unrelated = await _p99_and_rate(deployment, seconds)
            ready = await _projection_fault(deployment)
        case_run.injected(len(_UNRELATED))
        case_run.require(ready is None, f"not ready during unrelated transactions: {ready}")
        async with AsyncExitStack() as stack:
            await _hold(deployment, stack, _BLOCKING)
            blocking = await _p99_and_rate(deployment, seconds)
            behind = await _projection_fault(deployment)
        case_run.injected(len(_BLOCKING))
        released = time.monotonic()
        end = await deployment.server.fetch("SELECT max(notification_id) FROM stored_events")
        await _until_projected(deployment, end[0][0])
        case_run.recovered(time.monotonic() - released)
        case_run.require(behind is not None, "readiness did not report the blocked projection")
    await _check_rates(
        case_run, baseline, {"unrelated transactions": unrelated, "blocking transactions": blocking}
    )
    case_run.fact(f"readiness during the blocking transactions: {behind}")


async def _hold(
    deployment: Deployment, stack: AsyncExitStack, statements: tuple[LiteralString, ...]
) -> None:
    """Execute each statement in its own session and leave its transaction open."""
    for statement in statements:
        connection = await psycopg.AsyncConnection.connect(deployment.server.conninfo)
        await stack.enter_async_context(connection)
        stack.push_async_callback(connection.rollback)
        await connection.execute(statement)


async def _p99_and_rate(deployment: Deployment, seconds: float) -> tuple[float, float]:
    """The p99 of answers, in seconds, and the orders accepted per second, during `seconds`."""
    begun = time.monotonic()
    await asyncio.sleep(seconds)
    answers = [a.seconds for a in deployment.caller.answers if a.sent_at >= begun]
    return quantile(answers, 0.99) or 0.0, deployment.caller.rate_between(begun, time.monotonic())


async def _projection_fault(deployment: Deployment) -> str | None:
    async with (
        aiohttp.ClientSession(headers=SERVICE_HEADERS) as http,
        http.get(f"{deployment.apis[0].url}/health/ready") as answer,
    ):
        body = await answer.json()
    if answer.status == 200:
        return None
    return str(body["error"]["details"])


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


async def _check_rates(
    case_run: CaseRun, baseline: tuple[float, float], held: dict[str, tuple[float, float]]
) -> None:
    p99, rate = baseline
    case_run.fact(f"before: {rate:.0f} orders per second, p99 of the answer {p99 * 1000:.0f} ms")
    for name, (held_p99, held_rate) in held.items():
        case_run.fact(f"{name}: {held_rate:.0f} per second, p99 {held_p99 * 1000:.0f} ms")
        case_run.require(held_rate >= _SHARE * rate, f"{name}: {held_rate / rate:.0%} of the rate")
        bound = _MAX_RATIO * p99 + _NOISE_SECONDS
        case_run.require(held_p99 <= bound, f"{name}: p99 rose from {p99:.3f} to {held_p99:.3f} s")


CASE: Final = Case(
    name="held_transactions",
    promise="A transaction of another client, read-only or writing, stays open for 60 s: appends "
    "continue at the same rate. If it locks rows that the projection writes, readiness reports how "
    "far the projection is behind, and the projection catches up afterwards",
    at_least=4,
    short=0,
    run=run,
)

"""Postgres is there and gives nothing: the log locked, the pool stuck, no connection to be had."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, LiteralString

import psycopg

from pulse.eventstore import LOG_LOCK
from tests.faults.caller import Answer
from tests.faults.case import Case, CaseRun
from tests.faults.deployment import DESK, Deployment
from tests.faults.poller import asking
from tests.faults.report import quantile

_RATE: Final = 60.0
_ASKED_A_SECOND: Final = 100.0
_POST_SECONDS: Final = 5.0
_READ_SECONDS: Final = 6.0
"""2 s for a connection and 4 s for a lock, the first time."""

_SLACK_SECONDS: Final = 0.5
_MOST_REFUSAL_SECONDS: Final = 0.1
_MOST_RECOVERY_SECONDS: Final = 5.0
_UNAVAILABLE: Final = 503
_CONNECTIONS: Final = 60
_THAWED_SECONDS: Final = 0.5
"""Until then connections end that were idle while everything was frozen."""


_LOCK_TABLE: Final = "LOCK TABLE stored_events IN ACCESS EXCLUSIVE MODE"
_LOCK_QUEUE: Final = "LOCK TABLE order_queue IN ACCESS EXCLUSIVE MODE"
_LOCK_APPENDS: Final = f"SELECT pg_advisory_xact_lock({LOG_LOCK})"


class Judge:
    """Holds answers against the promise: refusals and nothing worse, in time, and soon fast.

    `idle` are answers of a process that has no part in the fault: what those take, the machine
    takes, and it is granted to the refusals on top. Where nobody else works it is next to nothing.
    """

    def __init__(self, case_run: CaseRun, idle: Sequence[Answer]) -> None:
        self.case_run = case_run
        self._idle = idle

    def hold(
        self,
        what: str,
        answers: Sequence[Answer],
        span: tuple[float, float],
        most_seconds: float,
    ) -> None:
        """Judge what was asked in that span of time; each process knows from its first refusal."""
        asked = _within(answers, span)
        refused = [answer for answer in asked if answer.status == _UNAVAILABLE]
        other = {answer.status for answer in asked if answer.status >= 400 or not answer.status}
        known: dict[str, float] = {}
        for answer in refused:
            at = answer.sent_at + answer.seconds
            known[answer.url] = min(at, known.get(answer.url, at))
        later = [answer.seconds for answer in refused if answer.sent_at > known[answer.url]]
        slowest = max((answer.seconds for answer in asked), default=0.0)
        p99 = quantile(later, 0.99) or 0.0
        idle = quantile([answer.seconds for answer in _within(self._idle, span)], 0.99) or 0.0
        self.case_run.fact(
            f"{what}: {len(refused)} of {len(asked)} refused, slowest answer {slowest:.2f} s; of"
            f" {len(later)} asked once it was known p99 {_ms(p99)}, most"
            f" {_ms(max(later, default=0.0))} (an idle process beside: p99 {_ms(idle)})"
        )
        require = self.case_run.require
        require(other <= {_UNAVAILABLE}, f"{what}: answered {sorted(other)}")
        require(bool(later), f"{what}: nothing was refused once it was known")
        self.case_run.require_in_time(
            p99 < _MOST_REFUSAL_SECONDS + idle, f"{what}: refusals p99 {_ms(p99)}"
        )
        self.case_run.require_in_time(
            slowest < most_seconds + _SLACK_SECONDS + idle, f"{what}: {slowest:.2f} s"
        )


def _within(answers: Sequence[Answer], span: tuple[float, float]) -> list[Answer]:
    return [answer for answer in answers if span[0] <= answer.sent_at < span[1]]


async def run(case_run: CaseRun) -> None:
    """Each of the four for a while, under load; after each Pulse must serve again by itself."""
    async with case_run.deployment(
        settings={"pool_size": 2},
        server_options={"max_connections": str(_CONNECTIONS)},
        caller={"gives_up": 0.98},
    ) as deployment:
        await deployment.until_served()
        bystander = deployment.add("gateway")
        await deployment.start(bystander)
        async with asking(f"{bystander.url}/health", {}, rate=_ASKED_A_SECOND / 2) as idle:
            judge = Judge(case_run, idle)
            await _log_locked(judge, deployment, 7.0 if case_run.short else 30.0)
            if not case_run.short:
                await _appends_locked(judge, deployment, 10.0)
                await _pool_stuck(judge, deployment, 15.0)
                await _no_connections(judge, deployment, 12.0)


async def _log_locked(judge: Judge, deployment: Deployment, seconds: float) -> None:
    api = f"{deployment.apis[0].url}/internal"
    log, one = f"{api}/events?limit=1", f"{api}/orders/{await deployment.caller.place()}"
    async with (
        deployment.caller.load(rate=_RATE),
        asking(log, DESK, rate=_ASKED_A_SECOND) as read,
        asking(one, DESK, rate=_ASKED_A_SECOND) as read_order,
    ):
        async with _holding(judge.case_run, deployment, _LOCK_TABLE) as since:
            await asyncio.sleep(seconds)
            until = time.monotonic()
        await _recover(judge.case_run, deployment)
    judge.hold("orders, the log locked", deployment.caller.answers, (since, until), _POST_SECONDS)
    judge.hold("reads of the log, it locked", read, (since, until), _READ_SECONDS)
    judge.hold("reads of an order, the log locked", read_order, (since, until), _READ_SECONDS)


async def _appends_locked(judge: Judge, deployment: Deployment, seconds: float) -> None:
    async with deployment.caller.load(rate=_RATE):
        async with _holding(judge.case_run, deployment, _LOCK_APPENDS) as since:
            await asyncio.sleep(seconds)
            until = time.monotonic()
        await _recover(judge.case_run, deployment)
    judge.hold("orders, appends locked", deployment.caller.answers, (since, until), _POST_SECONDS)


async def _pool_stuck(judge: Judge, deployment: Deployment, seconds: float) -> None:
    """Both pooled connections wait for the queue's table; orders need neither."""
    lists = f"{deployment.apis[0].url}/internal/orders?limit=1"
    async with (
        deployment.caller.load(rate=_RATE),
        asking(lists, DESK, rate=_ASKED_A_SECOND) as asked,
    ):
        async with _holding(judge.case_run, deployment, _LOCK_QUEUE) as since:
            await asyncio.sleep(seconds)
            until = time.monotonic()
        await _recover(judge.case_run, deployment)
    judge.hold("lists, every connection stuck", asked, (since, until), _READ_SECONDS)
    placed = [answer for answer in deployment.caller.answers if since <= answer.sent_at < until]
    refused = sum(answer.status == _UNAVAILABLE for answer in placed)
    judge.case_run.require(
        refused == 0, f"{refused} of {len(placed)} orders refused, the pool stuck"
    )


async def _no_connections(judge: Judge, deployment: Deployment, seconds: float) -> None:
    """Every connection of Pulse's is cut while it is frozen, and all places are taken."""
    lists = f"{deployment.apis[0].url}/internal/orders?limit=1"
    frozen = deployment.of_kind("api", "worker")
    async with AsyncExitStack() as load:
        async with AsyncExitStack() as taken:
            for member in frozen:
                member.freeze()
            await _take_all(deployment, taken)
            for member in frozen:
                member.thaw()
            await asyncio.sleep(_THAWED_SECONDS)
            judge.case_run.injected()
            since = time.monotonic()
            await load.enter_async_context(deployment.caller.load(rate=_RATE))
            asked = await load.enter_async_context(asking(lists, DESK, rate=_ASKED_A_SECOND))
            await asyncio.sleep(seconds)
            until = time.monotonic()
        await _recover(judge.case_run, deployment)
    judge.hold("orders, no connections", deployment.caller.answers, (since, until), _POST_SECONDS)
    judge.hold("lists, no connections", asked, (since, until), _READ_SECONDS)


async def _take_all(deployment: Deployment, taken: AsyncExitStack) -> None:
    connect = psycopg.AsyncConnection.connect
    first = await connect(deployment.server.conninfo, autocommit=True)
    await taken.enter_async_context(first)
    await first.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE application_name LIKE 'pulse:%'"
    )
    with contextlib.suppress(psycopg.OperationalError):
        for _ in range(_CONNECTIONS):
            connection = await connect(deployment.server.conninfo, autocommit=True)
            await taken.enter_async_context(connection)


@asynccontextmanager
async def _holding(
    case_run: CaseRun, deployment: Deployment, lock: LiteralString
) -> AsyncIterator[float]:
    """Hold that lock in the block; since when (monotonic)."""
    async with await psycopg.AsyncConnection.connect(deployment.server.conninfo) as connection:
        await connection.execute(lock)
        case_run.injected()
        yield time.monotonic()
        await connection.rollback()


async def _recover(case_run: CaseRun, deployment: Deployment) -> None:
    seconds = await deployment.until_served()
    case_run.recovered(seconds)
    case_run.require(seconds < _MOST_RECOVERY_SECONDS, f"served again only after {seconds:.1f} s")


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"


CASE: Final = Case(
    name="exhausted",
    promise="the log's table locked for 30 s, appends locked, every pooled connection stuck, no "
    "connection to be had: 503 within the deadline (orders 5 s, reads 6 s), p99 of the refusals "
    "asked for once the process knows < 100 ms; served again < 5 s after",
    at_least=4,
    short=1,
    run=run,
)

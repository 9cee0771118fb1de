"""Postgres runs but does not answer: locked log, blocked pool, or no free connection."""

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
from tests.faults.deployment import SERVICE_HEADERS, Deployment
from tests.faults.poller import repeated_get
from tests.faults.report import quantile

_ORDERS_PER_SECOND: Final = 60.0
_GETS_PER_SECOND: Final = 100.0
_POST_SECONDS: Final = 5.0
_READ_SECONDS: Final = 6.0
"""The first request waits 2 s for a connection and 4 s for a lock."""

_SLACK_SECONDS: Final = 0.5
_MAX_REFUSAL_SECONDS: Final = 0.1
_MAX_RECOVERY_SECONDS: Final = 5.0
_UNAVAILABLE: Final = 503
_CONNECTIONS: Final = 60
_AFTER_THAW_SECONDS: Final = 0.5
"""Connections that were idle during the freeze end within this time."""


_LOCK_TABLE: Final = "LOCK TABLE stored_events IN ACCESS EXCLUSIVE MODE"
_LOCK_QUEUE: Final = "LOCK TABLE order_queue IN ACCESS EXCLUSIVE MODE"
_LOCK_APPENDS: Final = f"SELECT pg_advisory_xact_lock({LOG_LOCK})"


class Checker:
    """Checks answers during a fault: only refusals, within the deadline, and fast once detected.

    `idle` are answers of a gateway to health checks, which no fault affects. Their latency is the
    machine's, so it is added to the limits; without other load it is close to 0.
    """

    def __init__(self, case_run: CaseRun, idle: Sequence[Answer]) -> None:
        self.case_run = case_run
        self._idle = idle

    def check(
        self,
        what: str,
        answers: Sequence[Answer],
        span: tuple[float, float],
        max_seconds: float,
    ) -> None:
        """Check the requests of that time span. A process's first refusal marks the detection."""
        requests = _within(answers, span)
        refused = [answer for answer in requests if answer.status == _UNAVAILABLE]
        other = {answer.status for answer in requests if answer.status >= 400 or not answer.status}
        detected_at: dict[str, float] = {}
        for answer in refused:
            at = answer.sent_at + answer.seconds
            detected_at[answer.url] = min(at, detected_at.get(answer.url, at))
        after_detection = [
            answer.seconds for answer in refused if answer.sent_at > detected_at[answer.url]
        ]
        slowest = max((answer.seconds for answer in requests), default=0.0)
        p99 = quantile(after_detection, 0.99) or 0.0
        idle = quantile([answer.seconds for answer in _within(self._idle, span)], 0.99) or 0.0
        self.case_run.fact(
            f"{what}: {len(refused)} of {len(requests)} refused, slowest answer {slowest:.2f} s;"
            f" {len(after_detection)} refusals after detection: p99 {_ms(p99)},"
            f" max {_ms(max(after_detection, default=0.0))} (an idle process: p99 {_ms(idle)})"
        )
        require = self.case_run.require
        require(other <= {_UNAVAILABLE}, f"{what}: got {sorted(other)}")
        require(bool(after_detection), f"{what}: no refusal after detection")
        self.case_run.require_in_time(
            p99 < _MAX_REFUSAL_SECONDS + idle, f"{what}: refusals p99 {_ms(p99)}"
        )
        self.case_run.require_in_time(
            slowest < max_seconds + _SLACK_SECONDS + idle,
            f"{what}: slowest answer {slowest:.2f} s",
        )


def _within(answers: Sequence[Answer], span: tuple[float, float]) -> list[Answer]:
    return [answer for answer in answers if span[0] <= answer.sent_at < span[1]]


async def run(case_run: CaseRun) -> None:
    """Inject each of the four faults under load; after each one Pulse must recover."""
    async with case_run.deployment(
        settings={"pool_size": 2},
        server_options={"max_connections": str(_CONNECTIONS)},
        caller={"abandon_share": 0.98},
    ) as deployment:
        await deployment.until_serving_again()
        idle_gateway = deployment.add("gateway")
        await deployment.start(idle_gateway)
        async with repeated_get(
            f"{idle_gateway.url}/health", {}, rate=_GETS_PER_SECOND / 2
        ) as idle:
            checker = Checker(case_run, idle)
            await _log_locked(checker, deployment, 7.0 if case_run.short else 30.0)
            if not case_run.short:
                await _appends_locked(checker, deployment, 10.0)
                await _pool_blocked(checker, deployment, 15.0)
                await _no_connections(checker, deployment, 12.0)


async def _log_locked(checker: Checker, deployment: Deployment, seconds: float) -> None:
    api = f"{deployment.apis[0].url}/internal"
    log, one = f"{api}/events?limit=1", f"{api}/orders/{await deployment.caller.place()}"
    async with (
        deployment.caller.load(rate=_ORDERS_PER_SECOND),
        repeated_get(log, SERVICE_HEADERS, rate=_GETS_PER_SECOND) as log_answers,
        repeated_get(one, SERVICE_HEADERS, rate=_GETS_PER_SECOND) as order_answers,
    ):
        async with _holding(checker.case_run, deployment, _LOCK_TABLE) as since:
            await asyncio.sleep(seconds)
            until = time.monotonic()
        await _recover(checker.case_run, deployment)
    checker.check("orders, log locked", deployment.caller.answers, (since, until), _POST_SECONDS)
    checker.check("reads of the log, log locked", log_answers, (since, until), _READ_SECONDS)
    checker.check("reads of an order, log locked", order_answers, (since, until), _READ_SECONDS)


async def _appends_locked(checker: Checker, deployment: Deployment, seconds: float) -> None:
    async with deployment.caller.load(rate=_ORDERS_PER_SECOND):
        async with _holding(checker.case_run, deployment, _LOCK_APPENDS) as since:
            await asyncio.sleep(seconds)
            until = time.monotonic()
        await _recover(checker.case_run, deployment)
    checker.check(
        "orders, appends locked", deployment.caller.answers, (since, until), _POST_SECONDS
    )


async def _pool_blocked(checker: Checker, deployment: Deployment, seconds: float) -> None:
    """Both pooled connections wait for the queue's table. Orders use no pool."""
    lists = f"{deployment.apis[0].url}/internal/orders?limit=1"
    async with (
        deployment.caller.load(rate=_ORDERS_PER_SECOND),
        repeated_get(lists, SERVICE_HEADERS, rate=_GETS_PER_SECOND) as list_answers,
    ):
        async with _holding(checker.case_run, deployment, _LOCK_QUEUE) as since:
            await asyncio.sleep(seconds)
            until = time.monotonic()
        await _recover(checker.case_run, deployment)
    checker.check("lists, pool blocked", list_answers, (since, until), _READ_SECONDS)
    placed = [answer for answer in deployment.caller.answers if since <= answer.sent_at < until]
    refused = sum(answer.status == _UNAVAILABLE for answer in placed)
    checker.case_run.require(
        refused == 0, f"pool blocked: {refused} of {len(placed)} orders refused"
    )


async def _no_connections(checker: Checker, deployment: Deployment, seconds: float) -> None:
    """Cut every connection of Pulse while it is frozen, and take all connection slots."""
    lists = f"{deployment.apis[0].url}/internal/orders?limit=1"
    frozen = deployment.of_kind("api", "worker")
    async with AsyncExitStack() as load:
        async with AsyncExitStack() as taken:
            for member in frozen:
                member.freeze()
            await _take_all_connections(deployment, taken)
            for member in frozen:
                member.thaw()
            await asyncio.sleep(_AFTER_THAW_SECONDS)
            checker.case_run.injected()
            since = time.monotonic()
            await load.enter_async_context(deployment.caller.load(rate=_ORDERS_PER_SECOND))
            list_answers = await load.enter_async_context(
                repeated_get(lists, SERVICE_HEADERS, rate=_GETS_PER_SECOND)
            )
            await asyncio.sleep(seconds)
            until = time.monotonic()
        await _recover(checker.case_run, deployment)
    checker.check(
        "orders, no connections", deployment.caller.answers, (since, until), _POST_SECONDS
    )
    checker.check("lists, no connections", list_answers, (since, until), _READ_SECONDS)


async def _take_all_connections(deployment: Deployment, taken: AsyncExitStack) -> None:
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
    """Hold that lock during the block; yields the time at which it was taken (monotonic)."""
    async with await psycopg.AsyncConnection.connect(deployment.server.conninfo) as connection:
        await connection.execute(lock)
        case_run.injected()
        yield time.monotonic()
        await connection.rollback()


async def _recover(case_run: CaseRun, deployment: Deployment) -> None:
    seconds = await deployment.until_serving_again()
    case_run.recovered(seconds)
    case_run.require(seconds < _MAX_RECOVERY_SECONDS, f"served again only after {seconds:.1f} s")


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"


CASE: Final = Case(
    name="exhausted",
    promise="The log's table is locked for 30 s, appends are locked, every pooled connection is "
    "blocked, or no connection is free: requests get 503 within the deadline (orders 5 s, reads "
    "6 s). Once a process has detected the fault, the p99 of its refusals is < 100 ms. It serves "
    "again < 5 s after the fault",
    at_least=4,
    short=1,
    run=run,
)

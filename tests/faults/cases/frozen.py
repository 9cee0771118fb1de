"""Clients frozen, or cut off with their connections left open, in the midst of what they do."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, get_args

from tests.faults.caller import Caller
from tests.faults.case import Case, CaseRun
from tests.faults.deployment import Deployment
from tests.faults.interruption import InterruptedWorker, Kind, Operation, Point, points_of
from tests.faults.report import quantile

_VICTIMS: Final = 20
_VICTIMS_SHORT: Final = 5
_ALWAYS_WELL: Final = 2
_STARTED_AT_ONCE: Final = 5
_SECONDS: Final = 30.0
_SECONDS_SHORT: Final = 6.0
_OTHERS_SECONDS: Final = 5.0
_FREE_SECONDS: Final = 20.0
_BURST: Final = 6
_BURST_EVERY_SECONDS: Final = 0.5
_LOOK_AGAIN_SECONDS: Final = 0.05

_HELD: Final = """
SELECT count(*) FROM order_claims WHERE split_part(claimed_by, ':', 2) = %s::text"""
_LEFT: Final = """
SELECT (SELECT count(*) FROM order_claims WHERE split_part(claimed_by, ':', 2) = %s::text),
       (SELECT count(*) FROM pg_stat_activity
         WHERE application_name LIKE 'pulse:%%:' || %s::text
           AND xact_start < clock_timestamp() - interval '15 s')"""


async def run(case_run: CaseRun) -> None:
    """Strike one worker after another, under load; each is stricken for 30 s, then goes on."""
    count = _VICTIMS_SHORT if case_run.short else _VICTIMS
    async with (
        case_run.deployment(
            apis=2, workers=1, settings={"batch_size": 2, "pool_size": 4}
        ) as deployment,
        AsyncExitStack() as stack,
    ):
        victims = [
            await stack.enter_async_context(
                InterruptedWorker.in_deployment(deployment, batch_size=2, pool_size=4)
            )
            for _ in range(count)
        ]
        for first in range(0, count, _STARTED_AT_ONCE):
            await deployment.start(*(v.member for v in victims[first : first + _STARTED_AT_ONCE]))
        async with _bursts(deployment):
            await _Strikes(case_run, deployment, victims).make()
        late = sum(victim.member.logged.count('"settled_by_another":') for victim in victims)
        case_run.fact(f"{late} batches had an order whose late outcome was refused")


class _Strikes:
    """One at a time, so that each is measured; several victims are stricken at once."""

    def __init__(
        self, case_run: CaseRun, deployment: Deployment, victims: list[InterruptedWorker]
    ) -> None:
        self._scene = case_run
        self._deployment = deployment
        self._well: asyncio.Queue[InterruptedWorker] = asyncio.Queue()
        for victim in victims:
            self._well.put_nowait(victim)
        self._stricken = asyncio.Semaphore(len(victims) - _ALWAYS_WELL)
        self._seconds = _SECONDS_SHORT if case_run.short else _SECONDS
        self._with_claims = 0

    async def make(self) -> None:
        """Make them all, see each through, and hold the times against what is promised."""
        slow: list[str] = []
        async with asyncio.TaskGroup() as seeing:
            for point in self._plan():
                await self._stricken.acquire()
                victim = await self._well.get()
                struck_at = await victim.strike(point)
                self._scene.injected()
                seeing.create_task(self._see_through(victim, point, struck_at))
                await _until_completed(self._deployment)
                took = time.monotonic() - struck_at
                self._scene.recovered(took)
                if took > _OTHERS_SECONDS:
                    slow.append(f"{point}: {took:.1f} s")
        self._scene.require(not slow, f"{len(slow)} times the others waited: {'; '.join(slow[:8])}")
        most = quantile(self._scene.row.recoveries, 1.0) or 0.0
        self._scene.fact(
            f"the others appended and projected within {most:.1f} s; "
            f"{self._with_claims} were stricken with orders claimed"
        )

    def _plan(self) -> list[Point]:
        """As many of each kind and operation, at all its points in turn, in any order."""
        random, plan = self._scene.random, []
        groups = [(kind, op) for kind in get_args(Kind) for op in get_args(Operation)]
        for kind, operation in groups:
            points = points_of(kind, operation)
            random.shuffle(points)
            each = -(-self._scene.times // len(groups))
            plan += (points * each)[:each]
        random.shuffle(plan)
        return plan

    async def _see_through(self, victim: InterruptedWorker, point: Point, struck_at: float) -> None:
        """Its claims are free in time; then it goes on, what it was at is refused, it works."""
        pid = str(victim.member.pid)
        held = await self._deployment.server.fetch(_HELD, pid)
        self._with_claims += bool(held[0][0])
        if self._seconds > _FREE_SECONDS:
            await asyncio.sleep(struck_at + _FREE_SECONDS - time.monotonic())
            await self._require_free(pid, point)
        await asyncio.sleep(struck_at + self._seconds - time.monotonic())
        victim.revive()
        works = await victim.works_again()
        self._scene.require(works, f"{point}: it does not work again")
        self._well.put_nowait(victim)
        self._stricken.release()

    async def _require_free(self, pid: str, point: Point) -> None:
        claims, transactions = (await self._deployment.server.fetch(_LEFT, pid, pid))[0]
        self._scene.require(
            not claims and not transactions,
            f"{point}: after {_FREE_SECONDS:g} s {claims} claims and {transactions} transactions",
        )


async def _until_completed(deployment: Deployment) -> None:
    """Place an order and return when it is COMPLETED in the read model."""
    endpoints = deployment.endpoints()
    async with Caller.with_endpoints(
        deployment.ledger, endpoints, deployment.random, gives_up=0.0
    ) as caller:
        order_id = await caller.place()
        deployment.caller.wrong += caller.wrong
    async with asyncio.timeout(60):
        while True:
            rows = await deployment.server.fetch(
                "SELECT state FROM order_queue WHERE order_id = %s::text::uuid", str(order_id)
            )
            if rows and rows[0][0] == "COMPLETED":
                return
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)


@asynccontextmanager
async def _bursts(deployment: Deployment) -> AsyncIterator[None]:
    """A few orders at once, every half second, so that every worker gets some."""

    async def place(over: asyncio.Event) -> None:
        while not over.is_set():
            await asyncio.gather(*(deployment.caller.place() for _ in range(_BURST)))
            await asyncio.sleep(_BURST_EVERY_SECONDS)

    over = asyncio.Event()
    placing = asyncio.ensure_future(place(over))
    try:
        yield
    finally:
        over.set()
        await placing


CASE: Final = Case(
    name="frozen",
    promise="client frozen, or cut off with its connections left open, for 30 s before, in and "
    "after each statement of append, claim and projection, 20 times each: others append and "
    "project within 5 s, its claims are free within 20 s, its late result is refused",
    at_least=120,
    short=0,
    run=run,
)

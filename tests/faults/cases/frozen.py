"""Workers frozen, or cut off with their connections open, at every statement they send."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, get_args

from tests.faults.caller import Caller
from tests.faults.case import Case, CaseRun
from tests.faults.deployment import Deployment
from tests.faults.interruption import FaultPoint, Kind, Operation, TargetWorker, points_of
from tests.faults.report import quantile

_TARGETS: Final = 20
_TARGETS_SHORT: Final = 5
_ALWAYS_HEALTHY: Final = 2
_STARTED_AT_ONCE: Final = 5
_SECONDS: Final = 30.0
_SECONDS_SHORT: Final = 6.0
_OTHERS_SECONDS: Final = 5.0
_FREE_SECONDS: Final = 20.0
_BURST: Final = 6
_BURST_EVERY_SECONDS: Final = 0.5
_POLL_SECONDS: Final = 0.05

_HELD: Final = """
SELECT count(*) FROM order_claims WHERE split_part(claimed_by, ':', 2) = %s::text"""
_LEFT: Final = """
SELECT (SELECT count(*) FROM order_claims WHERE split_part(claimed_by, ':', 2) = %s::text),
       (SELECT count(*) FROM pg_stat_activity a
         WHERE application_name LIKE 'pulse:%%:' || %s::text
           AND xact_start < clock_timestamp() - interval '15 s'
           AND NOT (%s::boolean
                    AND NOT EXISTS (
                        SELECT FROM pg_locks l
                         WHERE l.pid = a.pid
                           AND granted
                           AND mode IN ('RowShareLock', 'RowExclusiveLock'))))"""
"""Claims and old transactions; those that only read are left out if the last parameter is true.

Pulse does not end a read: it blocks no statement of another process, but it delays VACUUM and
migrations until the worker continues or ends.
"""


async def run(case_run: CaseRun) -> None:
    """Inject faults into one worker after another, under load; each fault lasts 30 s."""
    count = _TARGETS_SHORT if case_run.short else _TARGETS
    async with (
        case_run.deployment(
            apis=2, workers=1, settings={"batch_size": 2, "pool_size": 4}
        ) as deployment,
        AsyncExitStack() as stack,
    ):
        targets = [
            await stack.enter_async_context(
                TargetWorker.in_deployment(deployment, batch_size=2, pool_size=4)
            )
            for _ in range(count)
        ]
        for first in range(0, count, _STARTED_AT_ONCE):
            await deployment.start(*(v.member for v in targets[first : first + _STARTED_AT_ONCE]))
        async with _bursts(deployment):
            await _Injections(case_run, deployment, targets).run()
        late = sum(target.member.logged.count('"outcome_exists":') for target in targets)
        case_run.fact(f"{late} batches had an order whose late outcome was refused")


class _Injections:
    """Injects the faults one by one and measures each, while earlier targets are still faulty."""

    def __init__(
        self, case_run: CaseRun, deployment: Deployment, targets: list[TargetWorker]
    ) -> None:
        self._case_run = case_run
        self._deployment = deployment
        self._healthy: asyncio.Queue[TargetWorker] = asyncio.Queue()
        for target in targets:
            self._healthy.put_nowait(target)
        self._slots = asyncio.Semaphore(len(targets) - _ALWAYS_HEALTHY)
        self._seconds = _SECONDS_SHORT if case_run.short else _SECONDS
        self._with_claims = 0

    async def run(self) -> None:
        """Inject every fault, wait for each recovery, and check the times."""
        slow: list[str] = []
        async with asyncio.TaskGroup() as recoveries:
            for point in self._plan():
                await self._slots.acquire()
                target = await self._healthy.get()
                injected_at = await target.inject(point)
                self._case_run.injected()
                recoveries.create_task(self._recover(target, point, injected_at))
                await _until_completed(self._deployment)
                took = time.monotonic() - injected_at
                self._case_run.recovered(took)
                if took > _OTHERS_SECONDS:
                    slow.append(f"{point}: {took:.1f} s")
        self._case_run.require(
            not slow, f"other processes waited {len(slow)} times: {'; '.join(slow[:8])}"
        )
        slowest = quantile(self._case_run.row.recoveries, 1.0) or 0.0
        self._case_run.fact(
            f"other processes appended and projected within {slowest:.1f} s; "
            f"{self._with_claims} faults hit a worker with claimed orders"
        )

    def _plan(self) -> list[FaultPoint]:
        """Equally many of each kind and operation, covering all fault points, in random order."""
        random, plan = self._case_run.random, []
        groups = [(kind, op) for kind in get_args(Kind) for op in get_args(Operation)]
        for kind, operation in groups:
            points = points_of(kind, operation)
            random.shuffle(points)
            each = -(-self._case_run.times // len(groups))
            plan += (points * each)[:each]
        random.shuffle(plan)
        return plan

    async def _recover(self, target: TargetWorker, point: FaultPoint, injected_at: float) -> None:
        """Check that its claims are released in time; end the fault; check that it works again."""
        pid = str(target.member.pid)
        held = await self._deployment.server.fetch(_HELD, pid)
        self._with_claims += bool(held[0][0])
        if self._seconds > _FREE_SECONDS:
            await asyncio.sleep(injected_at + _FREE_SECONDS - time.monotonic())
            await self._require_free(pid, point)
        await asyncio.sleep(injected_at + self._seconds - time.monotonic())
        target.recover()
        works = await target.works_again()
        self._case_run.require(works, f"{point}: the worker completes no orders after the fault")
        self._healthy.put_nowait(target)
        self._slots.release()

    async def _require_free(self, pid: str, point: FaultPoint) -> None:
        may_read = str(point.operation == "release").lower()
        claims, transactions = (await self._deployment.server.fetch(_LEFT, pid, pid, may_read))[0]
        self._case_run.require(
            not claims and not transactions,
            f"{point}: {claims} claims and {transactions} transactions left"
            f" after {_FREE_SECONDS:g} s",
        )


async def _until_completed(deployment: Deployment) -> None:
    """Place an order and return when it is COMPLETED in the read model."""
    endpoints = deployment.endpoints()
    async with Caller.with_endpoints(
        deployment.ledger, endpoints, deployment.random, abandon_share=0.0
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
            await asyncio.sleep(_POLL_SECONDS)


@asynccontextmanager
async def _bursts(deployment: Deployment) -> AsyncIterator[None]:
    """Place several orders at once, every half second, so that every worker gets some."""

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
    promise="A worker is frozen, or cut off with its connections open, for 30 s before, during or "
    "after each statement of append, claim, release and projection, 20 times each: other processes "
    "append and project within 5 s, its claims and its locks on rows are released within 20 s, and "
    "its late results are refused",
    at_least=160,
    short=0,
    run=run,
)

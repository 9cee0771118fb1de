"""Finds the processes that are busy now, so that a fault hits a process during work."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Literal, LiteralString, Self
from uuid import UUID

import psycopg

from tests.faults.deployment import Deployment
from tests.faults.member import Kind, Member

Role = Literal["api", "gateway", "worker", "projecting"]
"""The work of a member. A member of kind "everything" has all four roles."""

KINDS: Final[Mapping[Role, tuple[Kind, ...]]] = {
    "api": ("api", "everything"),
    "gateway": ("gateway", "everything"),
    "worker": ("worker", "everything"),
    "projecting": ("api", "worker", "everything"),
}
"""The kinds of members that can have a role."""

_CLAIMS_WITHOUT_OUTCOME: Final = """
SELECT split_part(c.claimed_by, ':', 2)::integer, count(*)
  FROM order_claims c
 WHERE c.claimed_by IS NOT NULL
   AND NOT EXISTS (SELECT FROM stored_events s
                    WHERE s.originator_id = c.order_id AND s.originator_version > 1)
 GROUP BY 1"""
_OPEN_PROJECTIONS: Final = """
SELECT substring(a.application_name FROM '[0-9]+$')::integer, 1
  FROM pg_stat_activity a
 WHERE a.application_name LIKE 'pulse:pool@%'
   AND EXISTS (SELECT FROM pg_locks l
                WHERE l.pid = a.pid AND l.granted AND l.mode = 'RowExclusiveLock'
                  AND l.relation IN ('order_queue'::regclass, 'notification_tracking'::regclass))"""
_ACTIVE_STATEMENT: Final = """
SELECT FROM pg_stat_activity WHERE application_name LIKE %s AND state = 'active' LIMIT 1"""
_NOT_TAKEN_OVER: Final = """
SELECT (SELECT count(*) FROM unnest(%(orders)s::uuid[]) held
         WHERE NOT EXISTS (SELECT FROM stored_events s
                            WHERE s.originator_id = held AND s.originator_version > 1))
     + (SELECT count(*) FROM order_claims WHERE split_part(claimed_by, ':', 2) = %(pid)s::text)
     + (SELECT count(*) FROM notification_tracking
         WHERE application_name = 'order_queue' AND notification_id < %(end)s)"""

_CONCURRENT: Final = 24
_LARGE: Final = {"num_splits": 100, "duration_minutes": 600, "randomize": True}
_POLL_SECONDS: Final = 0.002
_AFTER_FREEZING_SECONDS: Final = 0.01
_MAX_POLLS: Final = 50
_MAX_ATTEMPTS_TO_WAIT: Final = 5
_PAUSE_SECONDS: Final = 0.1
_FIND_SECONDS: Final = 30.0
_TAKEOVER_SECONDS: Final = 60.0


class WorkMonitor:
    """Observes a deployment through its database, on one connection, and through its caller."""

    def __init__(self, deployment: Deployment, connection: psycopg.AsyncConnection[Any]) -> None:
        self._deployment = deployment
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def of(cls, deployment: Deployment) -> AsyncIterator[Self]:
        """A connected monitor."""
        async with await psycopg.AsyncConnection.connect(
            deployment.server.conninfo, autocommit=True, application_name="faults"
        ) as connection:
            yield cls(deployment, connection)

    async def work_of(self, role: Role) -> dict[int, int]:
        """The amount of work in progress in that role, by process id.

        For "api" and "gateway": requests in flight. For "worker": claimed orders without an
        outcome in the log. For "projecting": 1 if its transaction has written and is still open.
        """
        if role == "worker":
            return await self._counts(_CLAIMS_WITHOUT_OUTCOME)
        if role == "projecting":
            return await self._counts(_OPEN_PROJECTIONS)
        in_flight = self._deployment.caller.in_flight
        return {
            member.pid: in_flight[member.gateway_url if role == "gateway" else member.url]
            for member in self._deployment.of_kind(*KINDS[role])
        }

    async def find_busy(
        self, role: Role, among: Sequence[Member], *, min_work: int = 1
    ) -> tuple[Member, int]:
        """A random member that has at least that much work in progress, and the amount.

        Raises:
            TimeoutError: none had that much work within 30 s.
        """
        async with asyncio.timeout(_FIND_SECONDS):
            while True:
                work = await self.work_of(role)
                busy = [m for m in among if not m.ended and work.get(m.pid, 0) >= min_work]
                if busy:
                    member = self._deployment.random.choice(busy)
                    return member, work[member.pid]
                await asyncio.sleep(_POLL_SECONDS)

    async def freeze_busy(
        self, role: Role, among: Sequence[Member], *, min_work: int, between_statements: bool
    ) -> tuple[Member, int]:
        """Freeze a busy member; returns it, and the work that it still has once frozen.

        `between_statements`: also wait until Postgres runs no statement of it, so that no
        statement completes after the member is killed. This is given up after a few attempts.

        Raises:
            TimeoutError: no member could be frozen during work within 30 s.
        """
        async with asyncio.timeout(_FIND_SECONDS):
            for attempt in itertools.count(1):
                member, _ = await self.find_busy(role, among, min_work=min_work)
                member.freeze()
                await asyncio.sleep(_AFTER_FREEZING_SECONDS)
                wait = between_statements and attempt <= _MAX_ATTEMPTS_TO_WAIT
                if not wait or await self._statements_end(member.pid):
                    held = (await self.work_of(role)).get(member.pid, 0)
                    if held >= min_work:
                        return member, held
                member.thaw()
                await asyncio.sleep(_PAUSE_SECONDS)
        raise AssertionError("unreachable: the count has no end")

    async def _statements_end(self, pid: int) -> bool:
        """Wait until Postgres runs no statement of this process.

        False if one does not end: a long reply blocks while the client is frozen.
        """
        for _ in range(_MAX_POLLS):
            if not await self._has_statement(pid):
                return True
            await asyncio.sleep(_POLL_SECONDS)
        return False

    async def _has_statement(self, pid: int) -> bool:
        cursor = await self._connection.execute(_ACTIVE_STATEMENT, (f"pulse:%:{pid}",))
        return await cursor.fetchone() is not None

    async def end_of_log(self) -> int:
        """The last position in the log."""
        cursor = await self._connection.execute(
            "SELECT coalesce(max(notification_id), 0) FROM stored_events"
        )
        row = await cursor.fetchone()
        return int(row[0]) if row else 0

    async def orders_held_by(self, pid: int) -> list[UUID]:
        """The orders that this process has claimed."""
        cursor = await self._connection.execute(
            "SELECT order_id FROM order_claims WHERE split_part(claimed_by, ':', 2) = %s::text",
            (pid,),
        )
        return [order_id for (order_id,) in await cursor.fetchall()]

    async def until_taken_over(self, pid: int, orders: Sequence[UUID], position: int) -> None:
        """Wait until other processes have taken over the work of a dead process.

        Its orders have outcomes, its claims are gone, and the projection has reached `position`.

        Raises:
            TimeoutError: this took more than 60 s.
        """
        left = {"pid": pid, "orders": list(orders), "end": position}
        async with asyncio.timeout(_TAKEOVER_SECONDS):
            while True:
                cursor = await self._connection.execute(_NOT_TAKEN_OVER, left)
                if await cursor.fetchone() == (0,):
                    return
                await asyncio.sleep(_POLL_SECONDS)

    async def _counts(self, statement: LiteralString) -> dict[int, int]:
        cursor = await self._connection.execute(statement)
        return dict(await cursor.fetchall())


@asynccontextmanager
async def closed_loop_load(deployment: Deployment) -> AsyncIterator[asyncio.Event]:
    """Keep 24 orders of 100 slices each in flight, so that every process has work.

    The load is closed-loop, so it adapts to a slow deployment. Setting the event that is yielded
    stops new orders; so does leaving the block, which then awaits the orders in flight.
    """
    over = asyncio.Event()
    async with asyncio.TaskGroup() as placing:
        for _ in range(_CONCURRENT):
            placing.create_task(_place_until(over, deployment))
        try:
            yield over
        finally:
            over.set()


async def _place_until(over: asyncio.Event, deployment: Deployment) -> None:
    while not over.is_set():
        quantity = deployment.random.randint(100, 1_000_000)
        await deployment.caller.place(
            deployment.caller.request(total_quantity=quantity, split_config=_LARGE)
        )

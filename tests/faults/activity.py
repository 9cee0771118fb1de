"""Who is in the midst of work right now, so that a fault hits it there and not idle."""

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
"""What a member does at the moment; one that is everything has all four."""

KINDS: Final[Mapping[Role, tuple[Kind, ...]]] = {
    "api": ("api", "everything"),
    "gateway": ("gateway", "everything"),
    "worker": ("worker", "everything"),
    "projecting": ("api", "worker", "everything"),
}
"""Who can be found in a role."""

_UNSETTLED_CLAIMS: Final = """
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
_UNDER_WAY: Final = """
SELECT FROM pg_stat_activity WHERE application_name LIKE %s AND state = 'active' LIMIT 1"""
_LEFT_BY_THE_DEAD: Final = """
SELECT (SELECT count(*) FROM unnest(%(orders)s::uuid[]) held
         WHERE NOT EXISTS (SELECT FROM stored_events s
                            WHERE s.originator_id = held AND s.originator_version > 1))
     + (SELECT count(*) FROM order_claims WHERE split_part(claimed_by, ':', 2) = %(pid)s::text)
     + (SELECT count(*) FROM notification_tracking
         WHERE application_name = 'order_queue' AND notification_id < %(end)s)"""

_AT_ONCE: Final = 24
_LARGE: Final = {"num_splits": 100, "duration_minutes": 600, "randomize": True}
_LOOK_AGAIN_SECONDS: Final = 0.002
_AFTER_FREEZING_SECONDS: Final = 0.01
_LOOKS: Final = 50
_PATIENT_CATCHES: Final = 5
_BREATH_SECONDS: Final = 0.1
_FIND_SECONDS: Final = 30.0
_SETTLE_SECONDS: Final = 60.0


class ActivityWatch:
    """Looks at a house's database on one connection, and at its caller."""

    def __init__(self, deployment: Deployment, connection: psycopg.AsyncConnection[Any]) -> None:
        self._deployment = deployment
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def over(cls, deployment: Deployment) -> AsyncIterator[Self]:
        """A watch while in use."""
        async with await psycopg.AsyncConnection.connect(
            deployment.server.conninfo, autocommit=True, application_name="faults"
        ) as connection:
            yield cls(deployment, connection)

    async def work_of(self, role: Role) -> dict[int, int]:
        """By process id, how much work each has in its hands in that role.

        Requests in flight; orders claimed and without an outcome in the log; for the one that
        projects, its one transaction that has written and not yet ended.
        """
        if role == "worker":
            return await self._counts(_UNSETTLED_CLAIMS)
        if role == "projecting":
            return await self._counts(_OPEN_PROJECTIONS)
        in_flight = self._deployment.caller.in_flight
        return {
            member.pid: in_flight[member.gateway_url if role == "gateway" else member.url]
            for member in self._deployment.of_kind(*KINDS[role])
        }

    async def found(
        self, role: Role, among: Sequence[Member], *, least: int = 1
    ) -> tuple[Member, int]:
        """One of these that has that much work in its hands now, and how much.

        Raises:
            TimeoutError: none had within 30 s.
        """
        async with asyncio.timeout(_FIND_SECONDS):
            while True:
                work = await self.work_of(role)
                busy = [m for m in among if not m.ended and work.get(m.pid, 0) >= least]
                if busy:
                    member = self._deployment.random.choice(busy)
                    return member, work[member.pid]
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def caught(
        self, role: Role, among: Sequence[Member], *, least: int, between_statements: bool
    ) -> tuple[Member, int]:
        """One of these, frozen in the midst of work: looked at again, it still has it in its hands.

        `between_statements`: none of its statements is under way any more, so that nothing it has
        begun comes to an end without it; if that can be had in a few catches.

        Raises:
            TimeoutError: none was within 30 s.
        """
        async with asyncio.timeout(_FIND_SECONDS):
            for catch in itertools.count(1):
                member, _ = await self.found(role, among, least=least)
                member.freeze()
                await asyncio.sleep(_AFTER_FREEZING_SECONDS)
                patient = between_statements and catch <= _PATIENT_CATCHES
                if not patient or await self._statements_end(member.pid):
                    held = (await self.work_of(role)).get(member.pid, 0)
                    if held >= least:
                        return member, held
                member.thaw()
                await asyncio.sleep(_BREATH_SECONDS)
        raise AssertionError("unreachable: the count has no end")

    async def _statements_end(self, pid: int) -> bool:
        """Wait until none is under way; False if one does not end, its answer being too long."""
        for _ in range(_LOOKS):
            if not await self._has_statement(pid):
                return True
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        return False

    async def _has_statement(self, pid: int) -> bool:
        cursor = await self._connection.execute(_UNDER_WAY, (f"pulse:%:{pid}",))
        return await cursor.fetchone() is not None

    async def end_of_log(self) -> int:
        """The last position."""
        cursor = await self._connection.execute(
            "SELECT coalesce(max(notification_id), 0) FROM stored_events"
        )
        row = await cursor.fetchone()
        return int(row[0]) if row else 0

    async def orders_held_by(self, pid: int) -> list[UUID]:
        """What that process has claimed and not settled."""
        cursor = await self._connection.execute(
            "SELECT order_id FROM order_claims WHERE split_part(claimed_by, ':', 2) = %s::text",
            (pid,),
        )
        return [order_id for (order_id,) in await cursor.fetchall()]

    async def until_taken_over(self, pid: int, orders: Sequence[UUID], position: int) -> None:
        """Return when nothing is left of a dead process: its orders settled, its claims gone.

        And the projection stands at least at that position, whoever was at it.

        Raises:
            TimeoutError: not within 60 s.
        """
        left = {"pid": pid, "orders": list(orders), "end": position}
        async with asyncio.timeout(_SETTLE_SECONDS):
            while True:
                cursor = await self._connection.execute(_LEFT_BY_THE_DEAD, left)
                if await cursor.fetchone() == (0,):
                    return
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def _counts(self, statement: LiteralString) -> dict[int, int]:
        cursor = await self._connection.execute(statement)
        return dict(await cursor.fetchall())


@asynccontextmanager
async def pressure(deployment: Deployment) -> AsyncIterator[asyncio.Event]:
    """Everybody has work while in the block: 24 orders of a hundred slices on their way at once.

    Closed loop, so that a slow house is not buried. `over` ends it at once; on leaving the block it
    is ended, and those under way are waited for.
    """
    over = asyncio.Event()
    async with asyncio.TaskGroup() as placing:
        for _ in range(_AT_ONCE):
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

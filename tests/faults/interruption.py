"""Workers behind proxies that are frozen or cut off at a given statement."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Literal, Self

import msgspec

from tests.faults.deployment import Deployment
from tests.faults.member import Member
from tests.faults.proxy import Interruption, Proxy, Sent

Kind = Literal["frozen", "cut off"]
Delivery = Literal["before", "half", "unsynced", "delivered"]
Operation = Literal["append", "claim", "release", "projection"]

_LOCKS: Final = "FOR UPDATE OF notification_tracking"
_COPIES: Final = "COPY scheduled_slices"
_ADVANCES: Final = "UPDATE notification_tracking"
_SYNC_BYTES: Final = 5
_REACH_SECONDS: Final = 40.0
_WORK_SECONDS: Final = 40.0
_POLL_SECONDS: Final = 0.1

STATEMENTS: Final[Mapping[Operation, Mapping[str, Callable[[Sent], bool]]]] = {
    "append": {"append": lambda sent: "INSERT INTO stored_events" in sent.text},
    "claim": {"claim": lambda sent: "first_claimed_at = COALESCE" in sent.text},
    "release": {"read": lambda sent: "FROM due_orders" in sent.text and "LIMIT" in sent.text},
    "projection": {
        "begin": lambda sent: sent.text == "BEGIN",
        "lock": lambda sent: _LOCKS in sent.text,
        "read": lambda sent: "FROM recorded_events()" in sent.text and _LOCKS in sent.before,
        "write": lambda sent: (
            "INSERT INTO order_queue" in sent.text or "UPDATE order_queue" in sent.text
        ),
        "copy": lambda sent: _COPIES in sent.text,
        "advance": lambda sent: _ADVANCES in sent.text,
        "commit": lambda sent: sent.text == "COMMIT" and _ADVANCES in sent.before,
    },
}
"""The statements of each operation, and a predicate that recognizes each one."""

_SIMPLE: Final = frozenset({"begin", "copy", "commit"})
"""Statements sent as one message, without a separate Sync, so "unsynced" does not apply."""


class FaultPoint(msgspec.Struct, frozen=True):
    """A kind of fault, the statement at which it hits, and how much of the statement has arrived.

    "unsynced": all messages but the last one, so Postgres executes the statement without commit.
    """

    kind: Kind
    operation: Operation
    statement: str
    delivery: Delivery

    def __str__(self) -> str:
        return f"{self.kind}, {self.operation} {self.statement}, {self.delivery}"

    def bytes_of(self, size: int) -> int:
        """The number of bytes that arrive of a request of that size."""
        sizes = {"before": 0, "half": size // 2, "unsynced": size - _SYNC_BYTES, "delivered": size}
        return sizes[self.delivery]


def points_of(kind: Kind, operation: Operation) -> list[FaultPoint]:
    """Every fault point of that operation."""
    deliveries: tuple[Delivery, ...] = ("before", "half", "unsynced", "delivered")
    return [
        FaultPoint(kind, operation, statement, delivery)
        for statement in STATEMENTS[operation]
        for delivery in deliveries
        if not (delivery == "unsynced" and statement in _SIMPLE)
    ]


class TargetWorker:
    """A worker into which faults are injected, one after the other."""

    def __init__(self, member: Member, proxy: Proxy) -> None:
        self.member = member
        self._proxy = proxy
        self._resume = asyncio.Event()
        self._completed_before = 0

    @classmethod
    @asynccontextmanager
    async def in_deployment(cls, deployment: Deployment, **settings: Any) -> AsyncIterator[Self]:
        """A worker behind a proxy, not started. On exit it ends before the proxy."""
        async with Proxy.in_front_of(deployment.server.conninfo) as proxy:
            target = cls(deployment.add("worker", database_url=proxy.url, **settings), proxy)
            try:
                yield target
            finally:
                target.recover()
                await target.member.close()

    @property
    def completed(self) -> int:
        """The number of batches in which it completed orders."""
        return self.member.logged.count('"completed":')

    async def inject(self, point: FaultPoint) -> float:
        """Inject the fault at the next such statement; returns the time (monotonic).

        Raises:
            TimeoutError: the worker did not send the statement within 40 s.
        """
        injected_at: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._resume = asyncio.Event()
        matches = STATEMENTS[point.operation][point.statement]

        def on_reached() -> None:
            if point.kind == "frozen":
                self.member.freeze()
            else:
                self._proxy.drop_all()
            injected_at.set_result(time.monotonic())

        def interrupt(sent: Sent) -> Interruption | None:
            if not matches(sent):
                return None
            self._proxy.interrupt = _forward
            return Interruption(
                request_bytes=point.bytes_of(sent.size), on_reached=on_reached, resume=self._resume
            )

        self._proxy.interrupt = interrupt
        try:
            async with asyncio.timeout(_REACH_SECONDS):
                return await injected_at
        except TimeoutError:
            raise TimeoutError(f"{point}: not reached within {_REACH_SECONDS:g} s") from None

    def recover(self) -> None:
        """Resume the process, or its network. The interrupted statement is sent on, late."""
        self._completed_before = self.completed
        self._resume.set()
        self._proxy.heal()
        self.member.thaw()

    async def works_again(self) -> bool:
        """Wait until it completes orders again; False after 40 s."""
        deadline = time.monotonic() + _WORK_SECONDS
        while self.completed <= self._completed_before:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True


def _forward(_: Sent) -> None:
    return None

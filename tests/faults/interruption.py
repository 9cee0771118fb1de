"""Workers behind proxies of their own, that freeze or are cut off at a chosen point of work."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Literal, Self

import msgspec

from tests.faults.deployment import Deployment
from tests.faults.member import Member
from tests.faults.proxy import Proxy, Sent, Stop

Kind = Literal["frozen", "cut off"]
Place = Literal["before", "half", "unsynced", "delivered"]
Operation = Literal["append", "claim", "projection"]

_LOCKS: Final = "FOR UPDATE OF notification_tracking"
_COPIES: Final = "COPY scheduled_slices"
_ADVANCES: Final = "UPDATE notification_tracking"
_SYNC_BYTES: Final = 5
_REACH_SECONDS: Final = 40.0
_WORK_SECONDS: Final = 40.0
_LOOK_AGAIN_SECONDS: Final = 0.1

STATEMENTS: Final[Mapping[Operation, Mapping[str, Callable[[Sent], bool]]]] = {
    "append": {"append": lambda sent: "INSERT INTO stored_events" in sent.text},
    "claim": {"claim": lambda sent: "first_claimed_at = COALESCE" in sent.text},
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
"""By operation, its statements, and how to know each on its way."""

_SIMPLE: Final = frozenset({"begin", "copy", "commit"})
"""Sent as one message: there is nothing after what is carried out."""


class Point(msgspec.Struct, frozen=True):
    """Where a member is stricken: how, at which statement, how much of which has arrived.

    `unsynced`: all but the last message, so that it is carried out and not committed.
    """

    kind: Kind
    operation: Operation
    statement: str
    place: Place

    def __str__(self) -> str:
        return f"{self.kind}, {self.operation} {self.statement}, {self.place}"

    def bytes_of(self, size: int) -> int:
        """How many bytes of a request of that size arrive."""
        sizes = {"before": 0, "half": size // 2, "unsynced": size - _SYNC_BYTES, "delivered": size}
        return sizes[self.place]


def points_of(kind: Kind, operation: Operation) -> list[Point]:
    """Every point of that operation."""
    places: tuple[Place, ...] = ("before", "half", "unsynced", "delivered")
    return [
        Point(kind, operation, statement, place)
        for statement in STATEMENTS[operation]
        for place in places
        if not (place == "unsynced" and statement in _SIMPLE)
    ]


class InterruptedWorker:
    """A worker that may be stricken, again and again."""

    def __init__(self, member: Member, proxy: Proxy) -> None:
        self.member = member
        self._proxy = proxy
        self._held = asyncio.Event()
        self._settled_before = 0

    @classmethod
    @asynccontextmanager
    async def in_deployment(cls, deployment: Deployment, **settings: Any) -> AsyncIterator[Self]:
        """A worker behind a proxy, not started; ended before the proxy."""
        async with Proxy.before(deployment.server.conninfo) as proxy:
            victim = cls(deployment.add("worker", database_url=proxy.url, **settings), proxy)
            try:
                yield victim
            finally:
                victim.revive()
                await victim.member.close()

    @property
    def settled(self) -> int:
        """How many batches it has completed orders in."""
        return self.member.logged.count('"completed":')

    async def strike(self, point: Point) -> float:
        """Strike it the next time it is there; the moment (monotonic) at which it was.

        Raises:
            TimeoutError: it did not get there within 40 s.
        """
        struck: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._held = asyncio.Event()
        met = STATEMENTS[point.operation][point.statement]

        def reached() -> None:
            if point.kind == "frozen":
                self.member.freeze()
            else:
                self._proxy.swallow()
            struck.set_result(time.monotonic())

        def meet(sent: Sent) -> Stop | None:
            if not met(sent):
                return None
            self._proxy.meet = _let_through
            return Stop(request_bytes=point.bytes_of(sent.size), reached=reached, held=self._held)

        self._proxy.meet = meet
        try:
            async with asyncio.timeout(_REACH_SECONDS):
                return await struck
        except TimeoutError:
            raise TimeoutError(f"{point}: not reached within {_REACH_SECONDS:g} s") from None

    def revive(self) -> None:
        """It runs again, or its network works again; what was held goes on its way, late."""
        self._settled_before = self.settled
        self._held.set()
        self._proxy.heal()
        self.member.thaw()

    async def works_again(self) -> bool:
        """Whether it completes orders again within 40 s."""
        deadline = time.monotonic() + _WORK_SECONDS
        while self.settled <= self._settled_before:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        return True


def _let_through(_: Sent) -> None:
    return None

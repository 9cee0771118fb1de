"""Claims: which worker holds which order, and which workers are present, by the database alone.

While a worker lives, a connection of its own holds an advisory lock under its name. A claim whose
worker holds no such lock is an orphan: the worker was killed, cut off, or is frozen. No heartbeat
is written and no clock is compared: Postgres sees a killed process at once, and ends a session from
which it has heard nothing for too long.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from pulse.domain import SPLITTERS, Claim
from pulse.loop import WakeUp
from pulse.postgres import Connection, Database, Listener, fetch, load_sql

CLAIMS_CHANNEL: Final = "order_claims"
"""The channel on which released orders are announced, so that a waiting worker claims them."""

PRESENCE_CLASS: Final = 0x50554C53
"""The first key of presence locks; the second is the hash of the worker's name."""

MAX_ABSENT_SECONDS: Final = 10.0
"""A worker without its presence for longer does not do its work."""

SILENCE_SECONDS: Final = 15.0
"""Postgres ends the presence of a worker that has sent nothing for so long; it sends every 5 s."""

_MAX_OVERDUE: Final = 500
_MAX_FORGOTTEN: Final = 10_000
_OLDEST: Final = (datetime(1, 1, 1, tzinfo=UTC), UUID(int=0))
"""Before the first claim and the first order that there can be."""

_CLAIM_ORDERS = load_sql(__package__, "claim_orders")
_RELEASE_CLAIMS = load_sql(__package__, "release_claims")
_FORGET_CLAIMS = load_sql(__package__, "forget_claims")
_RELEASE_ORPHANS = load_sql(__package__, "release_orphans")
_SELECT_OVERDUE_CLAIMS = load_sql(__package__, "select_overdue_claims")
_SELECT_WORKERS = load_sql(__package__, "select_workers")
_HOLD_PRESENCE = load_sql(__package__, "hold_presence")


class Claims:
    """The claims of one worker. Two workers never hold one order at once.

    Each method raises DatabaseUnavailable where it may have been carried out or not.
    """

    def __init__(
        self, database: Database, worker: str, *, on_rename: Callable[[str], None] = lambda _: None
    ) -> None:
        self.worker = worker
        self._name = worker
        self._renamings = 0
        self._on_rename = on_rename
        self._database = database
        self._splitter_versions = sorted(SPLITTERS)
        self._forgotten: deque[UUID] = deque(maxlen=_MAX_FORGOTTEN)

    async def claim(self, limit: int) -> dict[UUID, Claim]:
        """Claim up to that many pending orders, oldest first; never one that wants newer code.

        Nor one of the last 10,000 that were forgotten: they would keep all others waiting.
        """
        parameters = (self._splitter_versions, list(self._forgotten), limit, self.worker)
        async with self._database.connection() as connection:
            return _claims(await fetch(connection, _CLAIM_ORDERS, parameters, prepare=False))

    async def release(self, order_ids: Iterable[UUID]) -> None:
        """Hand orders back at once."""
        async with self._database.connection() as connection:
            await connection.execute(_RELEASE_CLAIMS, (list(order_ids), self.worker), prepare=False)

    async def forget(self, order_ids: Iterable[UUID]) -> None:
        """Hand orders back as if this worker had never claimed them, and never claim them again."""
        forgotten = list(order_ids)
        async with self._database.connection() as connection:
            await connection.execute(_FORGET_CLAIMS, (forgotten, self.worker), prepare=False)
        self._forgotten += forgotten

    def abandon(self) -> None:
        """Go on under a new name, since a reply was lost and it is not known what is held.

        What the former name holds, or will hold when a statement under way is carried out late, is
        orphaned with the presence under that name, and is released like a gone worker's.
        """
        self._renamings += 1
        self.worker = f"{self._name}.{self._renamings}"
        self._on_rename(self.worker)


class Presence:
    """One worker's presence. It also listens for released orders, and wakes the worker."""

    def __init__(
        self,
        database: Database,
        worker: str,
        wake_up: WakeUp,
        *,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self.worker = worker
        self._renamed = WakeUp()
        self._held_name: str | None = None
        self._last_held_at: float | None = None
        self._silence_milliseconds = str(round(silence_seconds * 1000))
        self._listener = Listener(
            database, CLAIMS_CHANNEL, wake_up, role="presence", prepare=self._hold
        )

    @property
    def held(self) -> bool:
        """Whether the lock is held now; a worker that is not present claims nothing."""
        held = self._listener.connected and self._held_name == self.worker
        if held or self._last_held_at is None:
            self._last_held_at = asyncio.get_running_loop().time()
        return held

    @property
    def fault(self) -> str | None:
        """Why this worker claims nothing; None while it is present or was within the last 10 s."""
        if self.held or self._last_held_at is None:
            return None
        absent_seconds = asyncio.get_running_loop().time() - self._last_held_at
        if absent_seconds <= MAX_ABSENT_SECONDS:
            return None
        return (
            f"the worker has not been present for {absent_seconds:.0f} s: its connection for that "
            "cannot be made, see wakeups.listener_lost in the log"
        )

    def rename(self, worker: str) -> None:
        """Be present under that name from now on, and no longer under the former one."""
        self.worker = worker
        self._renamed.set()

    async def run(self) -> None:
        """Be present until cancelled, again and again if the connection breaks."""
        while True:
            listening = asyncio.ensure_future(self._listener.run())
            renamed = asyncio.ensure_future(self._renamed.wait(None))
            try:
                await asyncio.wait({listening, renamed}, return_when=asyncio.FIRST_COMPLETED)
                if listening.done():  # it never returns: it crashed
                    await listening
            finally:
                listening.cancel()
                renamed.cancel()
                await asyncio.gather(listening, renamed, return_exceptions=True)

    async def _hold(self, connection: Connection) -> None:
        worker = self.worker
        parameters = (self._silence_milliseconds, PRESENCE_CLASS, worker)
        await connection.execute(_HOLD_PRESENCE, parameters)
        self._held_name = worker


class WorkerClaims(msgspec.Struct, frozen=True):
    """The orders one worker holds; `overdue` of them for longer than the timeout.

    `oldest_seconds` is the age of the oldest, from its first claim and by the database's clock.
    """

    worker: str
    orders: int
    oldest_seconds: float
    overdue: int
    present: bool


class Workers(msgspec.Struct, frozen=True):
    """The workers of all processes: how many are present, and the claims of each that has any."""

    present: int
    claims: tuple[WorkerClaims, ...]
    timeout_seconds: float

    @property
    def _gone(self) -> tuple[WorkerClaims, ...]:
        return tuple(held for held in self.claims if not held.present)

    @property
    def gone_claims(self) -> int:
        """How many orders gone workers hold."""
        return sum(held.orders for held in self._gone)

    @property
    def oldest_gone_seconds(self) -> float:
        """For how long the oldest of them has been held."""
        return max((held.oldest_seconds for held in self._gone), default=0.0)

    @property
    def overdue_claims(self) -> int:
        """How many of them have been held for longer than `timeout_seconds`."""
        return sum(held.overdue for held in self._gone)


async def read_workers(connection: Connection, timeout_seconds: float) -> Workers:
    """The workers now; a claim is overdue after that long."""
    rows = await fetch(connection, _SELECT_WORKERS, (timeout_seconds,))
    claims = tuple(WorkerClaims(*row[1:]) for row in rows if row[1] is not None)
    return Workers(rows[0][0], claims, timeout_seconds)


async def release_orphans(database: Database, timeout_seconds: float) -> Counter[str]:
    """Hand back every orphan younger than the timeout; how many orders, by the worker's name.

    Raises:
        DatabaseUnavailable: it may have been done or not.
    """
    async with database.connection() as connection:
        rows = await fetch(connection, _RELEASE_ORPHANS, (timeout_seconds,), prepare=False)
    return Counter(row[1] for row in rows)


async def overdue_claims(
    database: Database, *, timeout_seconds: float
) -> AsyncIterator[dict[UUID, Claim]]:
    """The claims older than the timeout, oldest first, up to 500 at a time.

    Raises:
        DatabaseUnavailable: they cannot be read.
    """
    after = _OLDEST
    while True:
        parameters = (timeout_seconds, *after, _MAX_OVERDUE)
        async with database.connection() as connection:
            claims = _claims(await fetch(connection, _SELECT_OVERDUE_CLAIMS, parameters))
        if claims:
            yield claims
        if len(claims) < _MAX_OVERDUE:
            return
        last, claim = next(reversed(claims.items()))
        after = claim.first_claimed_at, last


def _claims(rows: Sequence[Sequence[Any]]) -> dict[UUID, Claim]:
    return {
        row[0]: Claim(worker=row[1], claimed_at=row[2], first_claimed_at=row[3]) for row in rows
    }

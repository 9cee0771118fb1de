"""Claims: which worker holds which order. Presence: which workers are alive.

Both are in Postgres. Each worker has a dedicated connection that holds an advisory lock on the
worker's name. A claim whose worker does not hold this lock is orphaned: the worker was killed,
disconnected, or is frozen. There is no heartbeat and no comparison of clocks. Postgres notices a
killed process at once, and terminates a session that has been idle for too long.

The table `order_workers` has the names of the workers that have started and not stopped. So a
worker that is no longer present is known by name, even if it held no claim.
"""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec
import psycopg
import structlog

from pulse.domain import SPLITTERS, Claim
from pulse.loop import WakeUp
from pulse.postgres import (
    Connection,
    Database,
    DatabaseUnavailable,
    Listener,
    describe,
    fetch,
    load_sql,
)

CLAIMS_CHANNEL: Final = "order_claims"
"""The notification channel for released claims, which wakes idle workers."""

PRESENCE_CLASS: Final = 0x50554C53
"""The first key of presence locks; the second key is the hash of the worker's name."""

MAX_ABSENT_SECONDS: Final = 10.0
"""A worker that has not held its presence lock for longer than this is reported as faulty."""

PRESENCE_TIMEOUT_SECONDS: Final = 15.0
"""Postgres ends a worker's session that is idle for this long. A worker sends a query every 5 s."""

_MAX_DELETE_NAME_SECONDS: Final = 1.0
_MAX_OVERDUE: Final = 500
_MAX_EXCLUDED: Final = 10_000
_OLDEST: Final = (datetime(1, 1, 1, tzinfo=UTC), UUID(int=0))
"""Sorts before every first claim and order id."""

_CLAIM_ORDERS = load_sql(__package__, "claim_orders")
_RELEASE_CLAIMS = load_sql(__package__, "release_claims")
_UNDO_CLAIMS = load_sql(__package__, "undo_claims")
_RELEASE_ORPHANS = load_sql(__package__, "release_orphans")
_SELECT_OVERDUE_CLAIMS = load_sql(__package__, "select_overdue_claims")
_SELECT_WORKERS = load_sql(__package__, "select_workers")
_HOLD_PRESENCE = load_sql(__package__, "hold_presence")
_INSERT_WORKER = load_sql(__package__, "insert_worker")
_DELETE_WORKER = load_sql(__package__, "delete_worker")
_DELETE_GONE_WORKERS = load_sql(__package__, "delete_gone_workers")
_log = structlog.get_logger(__name__)


class Claims:
    """The claims of one worker. Two workers never hold an order at the same time.

    Each method except `abandon` raises DatabaseUnavailable; the statement may or may not have been
    executed.
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
        self._excluded: deque[UUID] = deque(maxlen=_MAX_EXCLUDED)

    async def claim(self, limit: int) -> dict[UUID, Claim]:
        """Claim up to `limit` pending orders, oldest first.

        Orders of a splitter version that this code does not have are skipped. So are the last
        10,000 orders that `undo` released: claiming them again would block the others.
        """
        parameters = (self._splitter_versions, list(self._excluded), limit, self.worker)
        async with self._database.connection() as connection:
            return _claims(await fetch(connection, _CLAIM_ORDERS, parameters, prepare=False))

    async def release(self, order_ids: Iterable[UUID]) -> None:
        """Release orders, so that any worker may claim them."""
        async with self._database.connection() as connection:
            await connection.execute(_RELEASE_CLAIMS, (list(order_ids), self.worker), prepare=False)

    async def undo(self, order_ids: Iterable[UUID]) -> None:
        """Release orders, reset their first claim, and do not claim them again."""
        undone = list(order_ids)
        async with self._database.connection() as connection:
            await connection.execute(_UNDO_CLAIMS, (undone, self.worker), prepare=False)
        self._excluded += undone

    def abandon(self) -> None:
        """Continue under a new name, after a lost reply left it unknown which claims are held.

        Claims under the old name, and those that a delayed statement still makes under it, become
        orphaned when the presence moves to the new name. They are released like those of any worker
        that is no longer present.
        """
        self._renamings += 1
        self.worker = f"{self._name}.{self._renamings}"
        self._on_rename(self.worker)


class Presence:
    """Holds one worker's presence lock. Its connection also listens for released claims.

    Only the lock decides whether a worker is present. If the worker's name cannot be stored, a
    warning is logged, and `workers.gone` is not logged if this worker disappears. A worker that
    stops deletes its name before it releases the lock. If it cannot delete the name within 1 s, it
    is later logged as gone.
    """

    def __init__(
        self,
        database: Database,
        worker: str,
        wake_up: WakeUp,
        *,
        timeout_seconds: float = PRESENCE_TIMEOUT_SECONDS,
    ) -> None:
        self.worker = worker
        self._release_requested = WakeUp()
        self._stopping = False
        self._database = database
        self._held_name: str | None = None
        self._last_held_at: float | None = None
        self._timeout_milliseconds = str(round(timeout_seconds * 1000))
        self._listener = Listener(
            database, CLAIMS_CHANNEL, wake_up, purpose="presence", prepare=self._hold
        )

    @property
    def held(self) -> bool:
        """Whether the lock is held now. A worker must not claim orders without it."""
        held = self._listener.connected and self._held_name == self.worker
        if held or self._last_held_at is None:
            self._last_held_at = asyncio.get_running_loop().time()
        return held

    @property
    def fault(self) -> str | None:
        """Why this worker claims nothing; None if it was present within the last 10 s."""
        if self.held or self._last_held_at is None:
            return None
        absent_seconds = asyncio.get_running_loop().time() - self._last_held_at
        if absent_seconds <= MAX_ABSENT_SECONDS:
            return None
        return (
            f"the worker has not held its presence lock for {absent_seconds:.0f} s: the connection "
            "for it fails, see wakeups.listener_lost in the log"
        )

    def rename(self, worker: str) -> None:
        """Release the lock on the old name and take the lock on this one."""
        self.worker = worker
        self._release_requested.set()

    def stop(self) -> None:
        """Let `run` delete the worker's name, release the lock and return."""
        self._stopping = True
        self._release_requested.set()

    async def run(self) -> None:
        """Hold the lock until stopped or cancelled; reconnect if the connection breaks."""
        while not self._stopping:
            listening = asyncio.ensure_future(self._listener.run())
            requested = asyncio.ensure_future(self._release_requested.wait(None))
            try:
                await asyncio.wait({listening, requested}, return_when=asyncio.FIRST_COMPLETED)
                if listening.done():  # it ends only by an exception
                    await listening
                await self._delete_name()
            finally:
                listening.cancel()
                requested.cancel()
                await asyncio.gather(listening, requested, return_exceptions=True)

    async def _hold(self, connection: Connection) -> None:
        worker = self.worker
        parameters = (self._timeout_milliseconds, PRESENCE_CLASS, worker)
        await connection.execute(_HOLD_PRESENCE, parameters)
        try:
            await connection.execute(_INSERT_WORKER, (worker,))
        except psycopg.Error as error:
            if connection.closed:
                raise
            _log.warning("workers.name_not_stored", worker=worker, error=describe(error))
        self._held_name = worker

    async def _delete_name(self) -> None:
        """Delete the name that is held, on a pooled connection, while the lock is still held."""
        with contextlib.suppress(DatabaseUnavailable, TimeoutError):
            async with (
                asyncio.timeout(_MAX_DELETE_NAME_SECONDS),
                self._database.connection() as pooled,
            ):
                await pooled.execute(_DELETE_WORKER, (self._held_name,))


class WorkerClaims(msgspec.Struct, frozen=True):
    """How many orders a worker holds, and how many of them have been claimed too long (`overdue`).

    An order is overdue if its first claim, by any worker, is older than the timeout.
    `oldest_seconds` is the age of the oldest first claim, by the database's clock.
    """

    worker: str
    orders: int
    oldest_seconds: float
    overdue: int
    present: bool


class Workers(msgspec.Struct, frozen=True):
    """The workers of all processes: how many are present, and the claims of each worker."""

    present: int
    claims: tuple[WorkerClaims, ...]
    timeout_seconds: float

    @property
    def _orphaned(self) -> tuple[WorkerClaims, ...]:
        return tuple(held for held in self.claims if not held.present)

    @property
    def orphaned_claims(self) -> int:
        """How many orders are held by workers that are not present."""
        return sum(held.orders for held in self._orphaned)

    @property
    def oldest_orphaned_seconds(self) -> float:
        """How long ago the oldest of the `orphaned_claims` orders was first claimed."""
        return max((held.oldest_seconds for held in self._orphaned), default=0.0)

    @property
    def overdue_orphaned_claims(self) -> int:
        """How many of the `orphaned_claims` orders have been claimed longer than the timeout."""
        return sum(held.overdue for held in self._orphaned)


async def read_workers(connection: Connection, timeout_seconds: float) -> Workers:
    """Read the workers and their claims; a claim is overdue after `timeout_seconds`."""
    rows = await fetch(connection, _SELECT_WORKERS, (timeout_seconds,))
    claims = tuple(WorkerClaims(*row[1:]) for row in rows if row[1] is not None)
    return Workers(rows[0][0], claims, timeout_seconds)


async def delete_gone_workers(database: Database) -> list[str]:
    """Delete the names of workers that are neither present nor stopped; returns them, sorted.

    Each name is returned to one process only.

    Raises:
        DatabaseUnavailable: the names may or may not be deleted.
    """
    async with database.connection() as connection:
        return sorted(row[0] for row in await fetch(connection, _DELETE_GONE_WORKERS))


async def release_orphans(database: Database, timeout_seconds: float) -> Counter[str]:
    """Release the orphaned claims younger than the timeout; returns the count by worker.

    Raises:
        DatabaseUnavailable: the claims may or may not be released.
    """
    async with database.connection() as connection:
        rows = await fetch(connection, _RELEASE_ORPHANS, (timeout_seconds,), prepare=False)
    return Counter(row[1] for row in rows)


async def overdue_claims(
    database: Database, *, timeout_seconds: float
) -> AsyncIterator[dict[UUID, Claim]]:
    """Yield the claims older than the timeout, oldest first, up to 500 at a time.

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

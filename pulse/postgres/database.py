"""The one connection pool of a process, and its own dedicated connections."""

import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, Self, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from pulse.errors import PulseError
from pulse.postgres.limits import Limits, bounded_conninfo, milliseconds
from pulse.postgres.session import CONNECTION_KWARGS, WRONG_SESSION_ERRORS, Connection, Sessions
from pulse.postgres.sql import load_sql

T = TypeVar("T")

_READ_ATTEMPTS: Final = 3
_MAX_WAITING: Final = 500
_SET_LOCK_TIMEOUT: Final = load_sql(__package__, "set_lock_timeout")


class DatabaseUnavailable(PulseError):
    """Postgres is away or overloaded; nothing was done, and trying again later may succeed."""


UNEXPECTED_ERRORS: tuple[type[Exception], ...] = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.InsufficientPrivilege,
)
"""Errors that make Postgres unavailable but are not an outage: a person must change something."""

UNAVAILABLE_ERRORS: tuple[type[Exception], ...] = (
    *UNEXPECTED_ERRORS,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,
    *WRONG_SESSION_ERRORS,
    PoolTimeout,
    PoolClosed,
    TooManyRequests,
)
"""Errors that mean that Postgres cannot serve: away, full, locked, read-only or not migrated."""


class _PooledConnection(AsyncConnection[TupleRow]):
    """A connection that knows how long it waits for locks, and reports why connecting failed."""

    lock_seconds: float | None = None

    @classmethod
    async def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:  # noqa: ANN401 - the driver's
        report: Callable[[psycopg.Error], None] = kwargs.pop("report")
        try:
            return await super().connect(conninfo, **kwargs)
        except psycopg.Error as error:
            report(error)
            raise


class Database:
    """A pool that every part of the process shares, and single connections outside it.

    Those are for the few parts (appender, listener) that readers must not be able to starve.
    """

    def __init__(self, conninfo: str, *, pool_size: int, limits: Limits | None = None) -> None:
        self.conninfo = conninfo
        self.limits = limits or Limits()
        self._exhausted_until = 0.0
        self._refusal: str | None = None  # why the latest connection was refused, if it was
        self._sessions = Sessions(conninfo, self.limits)
        self._pool: AsyncConnectionPool[_PooledConnection] = AsyncConnectionPool(
            bounded_conninfo(conninfo, "pool", self.limits),
            connection_class=_PooledConnection,
            kwargs={**CONNECTION_KWARGS, "report": self._note_refusal},
            configure=self._prepare_pooled,
            min_size=min(2, pool_size),
            max_size=pool_size,
            max_waiting=_MAX_WAITING,
            reconnect_timeout=2.0,
            open=False,
            name="pulse",
        )

    async def open(self) -> None:
        """Start filling the pool; does not wait for Postgres."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close every pooled connection."""
        await self._pool.close(timeout=5.0)

    async def connect(self, role: str) -> Connection:
        """A connection outside the pool, in autocommit, owned by the caller.

        Raises:
            psycopg.OperationalError: Postgres is away.
            SessionUnfit: the session cannot be made what Pulse needs.
        """
        return await self._sessions.connect(role)

    @contextlib.asynccontextmanager
    async def connection(self, *, lock_seconds: float | None = None) -> AsyncIterator[Connection]:
        """A pooled connection in autocommit, which waits that long for locks (None: as usual).

        Raises:
            DatabaseUnavailable: none could be had in time, or it broke while in use.
        """
        lock_seconds = self.limits.lock_seconds if lock_seconds is None else lock_seconds
        try:
            wait_seconds = self._wait_seconds(self.limits.checkout_seconds)
            async with self._pool.connection(wait_seconds) as connection:
                if connection.lock_seconds != lock_seconds:
                    connection.lock_seconds = None  # set again should this be cut off
                    await connection.execute(_SET_LOCK_TIMEOUT, (milliseconds(lock_seconds),))
                    connection.lock_seconds = lock_seconds
                try:
                    yield connection
                except WRONG_SESSION_ERRORS:
                    await connection.close()  # the pool replaces it by one that is verified
                    raise
        except (PoolTimeout, TooManyRequests) as error:
            self._note_exhausted()
            raise DatabaseUnavailable(self._refusal or describe(error)) from error
        except UNAVAILABLE_ERRORS as error:
            raise DatabaseUnavailable(describe(error)) from error

    async def read(self, query: Callable[[Connection], Awaitable[T]]) -> T:
        """Run a query that changes nothing; tried again on another connection if its own broke.

        Connections that a restart of Postgres left dead in the pool are met here and replaced.
        While the pool is exhausted, it waits for no lock for long.

        Raises:
            DatabaseUnavailable: Postgres is away or overloaded.
        """
        for attempt in range(1, _READ_ATTEMPTS + 1):
            broken = False
            try:
                lock_seconds = self._wait_seconds(self.limits.lock_seconds)
                async with self.connection(lock_seconds=lock_seconds) as connection:
                    try:
                        return await query(connection)
                    finally:
                        broken = connection.broken
            except DatabaseUnavailable as error:
                if isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
                    self._note_exhausted()
                if attempt == _READ_ATTEMPTS or not broken:
                    raise
                await self.replace_broken()
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def replace_broken(self) -> None:
        """Replace pooled connections that are dead."""
        await self._pool.check()

    async def verify(self) -> None:
        """Verify that a session of the pool is still as Pulse needs it, the server's role included.

        Raises:
            DatabaseUnavailable: it is not, and says why; or Postgres is away or overloaded.
        """
        await self.read(
            lambda connection: self._sessions.verify(connection, leave_out={"lock_timeout"})
        )

    def _note_exhausted(self) -> None:
        self._exhausted_until = time.monotonic() + self.limits.exhausted_seconds

    def _wait_seconds(self, otherwise: float) -> float:
        """Fail fast while the pool is exhausted: only the first to meet a lasting fault wait."""
        if time.monotonic() < self._exhausted_until:
            return min(self.limits.exhausted_checkout_seconds, otherwise)
        return otherwise

    async def _prepare_pooled(self, connection: _PooledConnection) -> None:
        try:
            await self._sessions.prepare(connection)
        except psycopg.Error as error:
            self._note_refusal(error)
            raise
        connection.lock_seconds = self.limits.lock_seconds
        self._refusal = None

    def _note_refusal(self, error: psycopg.Error) -> None:
        self._refusal = describe(error)


_WHERE: Final = re.compile(r"connection to server (?:at|on socket) .*? failed: ")
_REPEATED: Final = re.compile(
    r"\".*\"|(?<=host )'.*'"
    r"|(?<=server process: )\S+$|(?<=no such database: )\S+$|(?<=no such user: )\S+$"
)
"""What libpq, a server or a pooler repeats of a URL. Greedy, since a value may hold quotes."""


def describe(error: Exception) -> str:
    """The first line of the driver's words, without the address and the secrets of a URL."""
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    if isinstance(error, PulseError) or getattr(error, "sqlstate", None) is not None:
        return lines[0]
    return _REPEATED.sub("***", _WHERE.sub("", lines[0]))

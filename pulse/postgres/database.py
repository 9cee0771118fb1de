"""The one connection pool of a process, and its own dedicated connections."""

import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, ClassVar, Self, TypeVar
from weakref import WeakSet

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from pulse.errors import PulseError
from pulse.postgres import session
from pulse.postgres.limits import Limits, bounded_conninfo

T = TypeVar("T")
Connection = AsyncConnection[TupleRow]

_READ_ATTEMPTS = 3
_MAX_WAITING = 500


class DatabaseUnavailable(PulseError):
    """Postgres is away or overloaded; nothing was done, and trying again later may succeed."""


class Database:
    """A pool that every part of the process shares, and single connections outside it.

    Those are for the few parts (appender, listener) that readers must not be able to starve.
    """

    _exhausted_until = 0.0
    _refusal: str | None = None
    """Why the latest connection was refused, None if it was not."""
    _schema: str | None = None
    """Where the first session's unqualified names lead; every other's must lead there too."""

    _hasty: ClassVar[WeakSet[Connection]] = WeakSet()
    """Pooled connections that wait for no lock for long."""

    def __init__(self, conninfo: str, *, pool_size: int, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._conninfo = conninfo
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            bounded_conninfo(conninfo, "pool", self.limits),
            connection_class=self._reporting_connection(),
            kwargs=session.CONNECTION_KWARGS,
            configure=self._prepare,
            min_size=min(2, pool_size),
            max_size=pool_size,
            max_waiting=_MAX_WAITING,
            reconnect_timeout=2.0,
            open=False,
            name="pulse",
        )

    @property
    def conninfo(self) -> str:
        """The server's address, without limits."""
        return self._conninfo

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
        conninfo = bounded_conninfo(self._conninfo, role, self.limits)
        connection = await AsyncConnection.connect(conninfo, **session.CONNECTION_KWARGS)
        await self._prepare(connection)
        return connection

    def _reporting_connection(self) -> type[Connection]:
        """A connection class that records why connecting failed, which the pool does not report."""
        database = self

        class Reporting(AsyncConnection[TupleRow]):
            @classmethod
            async def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:  # noqa: ANN401 - the driver's
                try:
                    return await super().connect(conninfo, **kwargs)
                except psycopg.Error as error:
                    database._refusal = describe(error)
                    raise

        return Reporting

    async def _prepare(self, connection: Connection) -> None:
        try:
            schema = await session.prepare(connection, self._conninfo, self.limits)
            self._schema = self._schema or schema
            if schema != self._schema:
                await connection.close()
                raise session.SessionUnfit(
                    f"search_path now leads to the schema {schema}, and this process works in "
                    f"{self._schema}: restore it, or restart Pulse if this is intended"
                )
        except psycopg.Error as error:
            self._refusal = describe(error)
            raise
        self._refusal = None

    @contextlib.asynccontextmanager
    async def connection(self, *, hasty: bool = False) -> AsyncIterator[Connection]:
        """A pooled connection in autocommit; with `hasty` it waits for no lock for long.

        Raises:
            DatabaseUnavailable: none could be had in time, or it broke while in use.
        """
        try:
            async with self._pool.connection(self._patience_seconds()) as connection:
                if hasty != (connection in self._hasty):
                    await self._hurry(connection, hasty=hasty)
                try:
                    yield connection
                except session.WRONG_SESSION_ERRORS:
                    await connection.close()  # the pool replaces it by one that is verified
                    raise
        except (PoolTimeout, TooManyRequests) as error:
            self._note_exhausted()
            raise DatabaseUnavailable(self._refusal or describe(error)) from error
        except UNAVAILABLE_ERRORS as error:
            raise DatabaseUnavailable(describe(error)) from error

    def _note_exhausted(self) -> None:
        self._exhausted_until = time.monotonic() + self.limits.exhausted_seconds

    @property
    def _exhausted(self) -> bool:
        return time.monotonic() < self._exhausted_until

    def _patience_seconds(self) -> float:
        """Of a fault that lasts only the first to meet it learn by waiting."""
        if self._exhausted:
            return min(self.limits.exhausted_checkout_seconds, self.limits.checkout_seconds)
        return self.limits.checkout_seconds

    async def _hurry(self, connection: Connection, *, hasty: bool) -> None:
        limits = self.limits
        seconds = limits.exhausted_checkout_seconds if hasty else limits.lock_seconds
        self._hasty.add(connection)  # before it is: what is cut off here is set again
        await connection.execute(_SET_LOCK_TIMEOUT, (f"{round(seconds * 1000)}ms",))
        if not hasty:
            self._hasty.discard(connection)

    async def read(self, query: Callable[[Connection], Awaitable[T]]) -> T:
        """Run a query that changes nothing; tried again on another connection if its own broke.

        Connections that a restart of Postgres left dead in the pool are met here and replaced.

        Raises:
            DatabaseUnavailable: Postgres is away or overloaded.
        """
        for attempt in range(1, _READ_ATTEMPTS + 1):
            broken = False
            hasty = self._exhausted
            try:
                async with self.connection(hasty=hasty) as connection:
                    try:
                        return await query(connection)
                    except psycopg.errors.LockNotAvailable:
                        self._note_exhausted()
                        raise
                    finally:
                        broken = connection.broken
            except DatabaseUnavailable:
                if attempt == _READ_ATTEMPTS or not broken:
                    raise
                await self._pool.check()
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def verify(self) -> None:
        """Verify that a session of the pool is still as Pulse needs it, the server's role included.

        Raises:
            DatabaseUnavailable: it is not, and says why; or Postgres is away or overloaded.
        """
        await self.read(lambda connection: session.verify(connection, self.limits))


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
    *session.WRONG_SESSION_ERRORS,
    PoolTimeout,
    PoolClosed,
    TooManyRequests,
)
"""Errors that mean that Postgres cannot serve: away, full, locked, read-only or not migrated."""

_SET_LOCK_TIMEOUT = "SELECT set_config('lock_timeout', %s, false)"


_WHERE = re.compile(r"connection to server (?:at|on socket) .*? failed: ")
_REPEATED = re.compile(
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

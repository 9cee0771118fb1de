"""The connection pool of a process, and dedicated connections outside it."""

import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, Protocol, Self, TypeVar

import msgspec
import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from pulse import metrics
from pulse.errors import PulseError
from pulse.postgres.limits import PostgresLimits, bounded_conninfo, milliseconds
from pulse.postgres.session import CONNECTION_KWARGS, WRONG_SESSION_ERRORS, Connection, Connector
from pulse.postgres.sql import load_sql

T = TypeVar("T")

_READ_ATTEMPTS: Final = 3
_MAX_WAITING: Final = 500
_MISSING_RIGHT: Final = (
    "give this role the rights of Pulse's processes, see `pulse migrate --roles`"
)
_SET_LOCK_TIMEOUT: Final = load_sql(__package__, "set_lock_timeout")


class DatabaseUnavailable(PulseError):
    """Postgres cannot be reached, refuses, or is overloaded. A retry later may succeed."""


UNEXPECTED_ERRORS: tuple[type[Exception], ...] = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.InsufficientPrivilege,
)
"""Errors that are treated as unavailability although an operator must fix the cause."""

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
"""Errors that become DatabaseUnavailable: unreachable, full, locked, read-only, not migrated."""


class _PooledConnection(AsyncConnection[TupleRow]):
    """A connection that remembers its lock_timeout, and reports why connecting failed."""

    lock_seconds: float | None = None

    @classmethod
    async def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:  # noqa: ANN401 - the driver's
        report: Callable[[psycopg.Error], None] = kwargs.pop("report")
        try:
            return await super().connect(conninfo, **kwargs)
        except psycopg.Error as error:
            report(error)
            raise


class PoolState(msgspec.Struct, frozen=True):
    """How many connections of a pool are idle and in use, and how many calls wait for one."""

    idle: int
    in_use: int
    waiting: int


class Reads(Protocol):
    """Runs read-only queries, on one server or on one of several."""

    async def read(self, query: Callable[[Connection], Awaitable[T]]) -> T:
        """The result of the query, whose statements all run on one server.

        Raises:
            DatabaseUnavailable: no server can answer it now.
        """


class Database:
    """The connection pool of the process, and dedicated connections outside it.

    Dedicated connections are for the parts (appender, listener) that must not wait for readers. All
    connections announce `code_revision`, the last revision of the schema that this code knows.

    A `read_only` pool never writes, and its server may be a standby. `on_connect` is called with
    each new pooled connection; if it raises a `psycopg.Error`, the connection is not used.
    """

    def __init__(  # noqa: PLR0913 - what differs between the pools of a process
        self,
        conninfo: str,
        *,
        pool_size: int,
        limits: PostgresLimits | None = None,
        code_revision: int | None = None,
        read_only: bool = False,
        on_connect: Callable[[Connection], Awaitable[None]] | None = None,
    ) -> None:
        self.conninfo = conninfo
        self._on_connect = on_connect
        self.limits = limits or PostgresLimits()
        self._exhausted_until = 0.0
        self._connect_error: str | None = (
            None  # why the latest attempt to connect failed, if it did
        )
        self._connector = Connector(
            conninfo, self.limits, code_revision=code_revision, read_only=read_only
        )
        purpose = "replica" if read_only else "pool"
        self._pool: AsyncConnectionPool[_PooledConnection] = AsyncConnectionPool(
            bounded_conninfo(conninfo, purpose, self.limits, code_revision),
            connection_class=_PooledConnection,
            kwargs={**CONNECTION_KWARGS, "report": self._note_connect_error},
            configure=self._prepare_pooled,
            min_size=1,
            max_size=pool_size,
            max_waiting=_MAX_WAITING,
            reconnect_timeout=2.0,
            open=False,
            name="pulse-replica" if read_only else "pulse",
        )

    async def open(self) -> None:
        """Start filling the pool; does not wait for Postgres."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close every pooled connection."""
        await self._pool.close(timeout=5.0)

    @property
    def pool_state(self) -> PoolState:
        """The state of the pool now."""
        stats = self._pool.get_stats()
        idle = stats["pool_available"]
        return PoolState(idle, stats["pool_size"] - idle, stats.get("requests_waiting", 0))

    async def connect(self, purpose: str) -> Connection:
        """Open a dedicated connection in autocommit mode, which the caller must close.

        Raises:
            psycopg.OperationalError: Postgres cannot be reached.
            SessionUnfit: the session does not meet Pulse's requirements.
        """
        return await self._connector.connect(purpose)

    @contextlib.asynccontextmanager
    async def connection(self, *, lock_seconds: float | None = None) -> AsyncIterator[Connection]:
        """Check out a pooled connection in autocommit mode; `lock_seconds` overrides the limit.

        Raises:
            DatabaseUnavailable: no connection was free in time, or one of UNAVAILABLE_ERRORS was
                raised.
        """
        lock_seconds = self.limits.lock_seconds if lock_seconds is None else lock_seconds
        try:
            wait_seconds = self._wait_seconds(self.limits.checkout_seconds)
            async with self._pool.connection(wait_seconds) as connection:
                if connection.lock_seconds != lock_seconds:
                    connection.lock_seconds = None  # unknown if the next statement is interrupted
                    await connection.execute(_SET_LOCK_TIMEOUT, (milliseconds(lock_seconds),))
                    connection.lock_seconds = lock_seconds
                try:
                    yield connection
                except WRONG_SESSION_ERRORS:
                    await connection.close()  # the pool opens a new one, which is verified
                    raise
        except (PoolTimeout, TooManyRequests) as error:
            self._note_exhausted()
            raise DatabaseUnavailable(self._connect_error or describe(error)) from error
        except psycopg.errors.InsufficientPrivilege as error:
            raise DatabaseUnavailable(f"{describe(error)}: {_MISSING_RIGHT}") from error
        except UNAVAILABLE_ERRORS as error:
            raise DatabaseUnavailable(describe(error)) from error

    async def read(self, query: Callable[[Connection], Awaitable[T]]) -> T:
        """Run a read-only query; retry on another connection if the connection broke.

        After a restart of Postgres this replaces the dead connections in the pool. While the pool
        is exhausted, the query waits for locks only briefly.

        Raises:
            DatabaseUnavailable: Postgres cannot be reached, refuses, or is overloaded.
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
                metrics.RETRIES.inc()
                await self.replace_broken()
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def replace_all(self) -> None:
        """Replace every connection in the pool; those in use when they are returned."""
        await self._pool.drain()

    async def replace_broken(self) -> None:
        """Replace dead connections in the pool."""
        await self._pool.check()

    async def verify(self) -> None:
        """Verify a pooled session again; a server that became a standby is detected, too.

        Raises:
            DatabaseUnavailable: the session is unfit, and the message says why; or Postgres cannot
                be reached or is overloaded.
        """
        await self.read(self._connector.verify)

    def _note_exhausted(self) -> None:
        self._exhausted_until = time.monotonic() + self.limits.exhausted_seconds

    def _wait_seconds(self, usual_seconds: float) -> float:
        """How long to wait: the usual time, or a short time while the pool is exhausted."""
        if time.monotonic() < self._exhausted_until:
            return min(self.limits.exhausted_checkout_seconds, usual_seconds)
        return usual_seconds

    async def _prepare_pooled(self, connection: _PooledConnection) -> None:
        try:
            await self._connector.prepare(connection)
            if self._on_connect is not None:
                await self._on_connect(connection)
        except psycopg.Error as error:
            self._note_connect_error(error)
            await connection.close()
            raise
        connection.lock_seconds = self.limits.lock_seconds
        self._connect_error = None

    def _note_connect_error(self, error: psycopg.Error) -> None:
        self._connect_error = describe(error)


_ADDRESS: Final = re.compile(r"connection to server (?:at|on socket) .*? failed: ")
_URL_PARTS: Final = re.compile(
    r"\".*\"|(?<=host )'.*'"
    r"|(?<=server process: )\S+$|(?<=no such database: )\S+$|(?<=no such user: )\S+$"
)
"""Parts of the URL in messages of libpq, a server or a pooler. Greedy: a value may have quotes."""


def describe(error: Exception) -> str:
    """The first line of the error's message, without the address and secrets of the URL."""
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    if isinstance(error, PulseError) or getattr(error, "sqlstate", None) is not None:
        return lines[0]
    return _URL_PARTS.sub("***", _ADDRESS.sub("", lines[0]))

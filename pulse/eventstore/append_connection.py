"""The appender's own connection: mended for ever, and let go of when it gives no sign of life."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, LiteralString

import msgspec
import psycopg
import structlog

from pulse.postgres import WRONG_SESSION_ERRORS, Connection, describe

_log = structlog.get_logger(__name__)
Rows = list[tuple[Any, ...]]


class ConnectionLost(Exception):
    """The connection broke in mid-statement: what became of the statement is unknown."""


class ConnectionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """`statement_seconds` is above the server's own limit, which should answer first."""

    statement_seconds: float = 12.0
    first_retry_seconds: float = 0.02
    most_retry_seconds: float = 0.5
    last_seconds: float = 1.0


class AppendConnection:
    """One connection that readers cannot take away. `away` says why there is none, if so."""

    def __init__(
        self, connect: Callable[[], Awaitable[Connection]], limits: ConnectionLimits
    ) -> None:
        self.away: str | None = None
        self._connect = connect
        self._limits = limits
        self._connection: Connection | None = None
        self._abandoned: set[asyncio.Task[None]] = set()

    async def ensure(self) -> None:
        """Return when connected, trying for as long as it takes."""
        pause = self._limits.first_retry_seconds
        while self._connection is None:
            try:
                self._connection = await self._connect()
                self.away = None
            except psycopg.Error as error:
                if self.away is None:
                    _log.warning("append.postgres_away", error=describe(error))
                self.away = describe(error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, self._limits.most_retry_seconds)

    async def fetch(self, statement: LiteralString, parameters: Sequence[Any]) -> Rows:
        """Run one statement in autocommit.

        Raises:
            ConnectionLost: it may have been carried out or not.
            psycopg.Error: the server refused it; nothing was done.
        """
        connection = self._connection
        if connection is None:
            raise ConnectionLost("not connected")
        task = asyncio.ensure_future(_fetch_all(connection, statement, parameters))
        try:
            await asyncio.wait({task}, timeout=self._limits.statement_seconds)
        except asyncio.CancelledError:
            self._abandon(task, connection)
            raise
        if not task.done():
            self._abandon(task, connection)
            raise ConnectionLost(f"no answer within {self._limits.statement_seconds:g} s")
        try:
            return task.result()
        except WRONG_SESSION_ERRORS:
            await self.close()  # the next one is verified, and may find a new primary
            raise
        except psycopg.Error as error:
            if connection.closed:
                self._connection = None
                raise ConnectionLost(describe(error)) from error
            raise

    async def close(self) -> None:
        """Close it; `ensure` would open another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def end(self) -> None:
        """Close it for good, and give what was abandoned a moment to end."""
        await self.close()
        if self._abandoned:
            await asyncio.wait(self._abandoned, timeout=self._limits.last_seconds)

    def _abandon(self, task: "asyncio.Task[Rows]", connection: Connection) -> None:
        """Leave a silent connection to end by itself: waiting for it would stop everyone."""
        self._connection = None
        closing = asyncio.ensure_future(_let_go(task, connection))
        self._abandoned.add(closing)
        closing.add_done_callback(self._abandoned.discard)


async def _let_go(task: "asyncio.Task[Rows]", connection: Connection) -> None:
    task.cancel()
    await asyncio.wait({task})
    await connection.close()


async def _fetch_all(
    connection: Connection, statement: LiteralString, parameters: Sequence[Any]
) -> Rows:
    cursor = connection.cursor(binary=True)
    await cursor.execute(statement, parameters, prepare=True)
    return await cursor.fetchall() if cursor.description else []

"""Wake-ups: hints that there is something to do. Polling is the guarantee, never these."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from psycopg import sql

from pulse.loop import WakeUp
from pulse.postgres.database import (
    UNAVAILABLE_ERRORS,
    Connection,
    Database,
    DatabaseUnavailable,
    describe,
)

_log = structlog.get_logger(__name__)
_RECONNECT_SECONDS = 0.5
_IDLE_CHECK_SECONDS = 5.0


class Notifier:
    """Tells other processes of new events: after the commit, on a pooled connection, rarely.

    NOTIFY takes a lock on the whole database until its transaction has committed, so it never
    rides in an append's transaction and is sent at most once per `interval_seconds`.
    """

    def __init__(
        self, database: Database, channel: str, *, interval_seconds: float = 0.005
    ) -> None:
        self._database = database
        self._statement = sql.SQL("NOTIFY {}").format(sql.Identifier(channel))
        self._due = WakeUp()
        self._interval_seconds = interval_seconds

    def notify(self) -> None:
        """Ask for a notification; returns at once."""
        self._due.set()

    async def run(self) -> None:
        """Send what was asked for, until cancelled."""
        while True:
            await self._due.wait(None)
            try:
                async with self._database.connection() as connection:
                    await connection.execute(self._statement)
            except DatabaseUnavailable as error:
                _log.debug("wakeups.notify_failed", error=str(error))
                self._due.set()
                await asyncio.sleep(_RECONNECT_SECONDS)
            await asyncio.sleep(self._interval_seconds)


class Listener:
    """Hears other processes' notifications, on a connection of its own that is mended for ever.

    Each time it has begun to listen it wakes once, since hints may have been lost before.
    `prepare` does what else the connection is for, before that; `connected` tells whether all of
    this is in force.
    """

    def __init__(
        self,
        database: Database,
        channel: str,
        wake_up: WakeUp,
        *,
        role: str = "listener",
        prepare: Callable[[Connection], Awaitable[None]] | None = None,
    ) -> None:
        self.connected = False
        self._lost = False
        self._role = role
        self._prepare = prepare
        self._database = database
        self._statement = sql.SQL("LISTEN {}").format(sql.Identifier(channel))
        self._wake_up = wake_up

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                await self._listen()
            except UNAVAILABLE_ERRORS as error:
                self._report(describe(error))
            finally:
                self.connected = False
            await asyncio.sleep(_RECONNECT_SECONDS)

    def _report(self, fault: str) -> None:
        """Say that the connection is lost, not every time that it could not be made again."""
        if not self._lost:
            _log.warning("wakeups.listener_lost", role=self._role, error=fault)
        self._lost = True

    async def _listen(self) -> None:
        connection = await self._database.connect(self._role)
        async with connection:
            if self._prepare is not None:
                await self._prepare(connection)
            await connection.execute(self._statement)
            self.connected, self._lost = True, False
            self._wake_up.set()
            while True:
                async for _ in connection.notifies(timeout=_IDLE_CHECK_SECONDS):
                    self._wake_up.set()
                await connection.execute("SELECT 1")

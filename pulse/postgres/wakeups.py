"""Wake-ups by NOTIFY and LISTEN: hints that there is work. Loops also poll: hints may be lost."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from psycopg import sql

from pulse.loop import WakeUp
from pulse.postgres.database import UNAVAILABLE_ERRORS, Database, DatabaseUnavailable, describe
from pulse.postgres.session import Connection
from pulse.retry import Retry, RetryPolicy

_log = structlog.get_logger(__name__)
_RETRY: Final = RetryPolicy(first_seconds=0.2, max_seconds=1.0)
_IDLE_CHECK_SECONDS: Final = 5.0
_PAUSE_PER_NOTIFY: Final = 5
"""The pause after a NOTIFY, in durations of the NOTIFY, up to _MAX_PAUSE_SECONDS."""

_MAX_PAUSE_SECONDS: Final = 1.0


class Notifier:
    """Sends notifications to other processes, on a pooled connection, at a limited rate.

    NOTIFY holds a database-wide lock until its transaction commits. So it is not part of an
    append's transaction, and is sent at most once per `interval_seconds`, or less often if it is
    slow.
    """

    def __init__(
        self, database: Database, channel: str, *, interval_seconds: float = 0.005
    ) -> None:
        self._database = database
        self._statement = sql.SQL("NOTIFY {}").format(sql.Identifier(channel))
        self._due = WakeUp()
        self._interval_seconds = interval_seconds

    def notify(self) -> None:
        """Request a notification; returns at once."""
        self._due.set()

    async def send(self) -> None:
        """Send a notification now.

        Raises:
            DatabaseUnavailable: it cannot be sent.
        """
        async with self._database.connection() as connection:
            await connection.execute(self._statement)

    async def run(self) -> None:
        """Send requested notifications until cancelled."""
        retry = Retry(_RETRY)
        while True:
            await self._due.wait(None)
            started = time.perf_counter()
            try:
                await self.send()
            except DatabaseUnavailable as error:
                _log.debug("wakeups.notify_failed", error=str(error))
                self._due.set()
                await retry.wait()
            else:
                retry.reset()
                taken = time.perf_counter() - started
                await asyncio.sleep(
                    max(self._interval_seconds, min(_PAUSE_PER_NOTIFY * taken, _MAX_PAUSE_SECONDS))
                )


class Listener:
    """Receives notifications on a dedicated connection, and reconnects when it is lost.

    It wakes its waiter after each connect, since hints may have been lost before. `prepare` runs on
    each new connection before LISTEN. `connected` is true once both have succeeded.
    """

    def __init__(
        self,
        database: Database,
        channel: str,
        wake_up: WakeUp,
        *,
        purpose: str = "listener",
        prepare: Callable[[Connection], Awaitable[None]] | None = None,
    ) -> None:
        self.connected = False
        self._purpose = purpose
        self._prepare = prepare
        self._database = database
        self._statement = sql.SQL("LISTEN {}").format(sql.Identifier(channel))
        self._wake_up = wake_up

    async def run(self) -> None:
        """Listen until cancelled. A lost connection is logged once, not at each attempt."""
        retry, reported = Retry(_RETRY), False
        while True:
            try:
                async with await self._database.connect(self._purpose) as connection:
                    if self._prepare is not None:
                        await self._prepare(connection)
                    await connection.execute(self._statement)
                    self.connected, reported = True, False
                    retry.reset()
                    await self._listen(connection)
            except UNAVAILABLE_ERRORS as error:
                if not reported:
                    _log.warning(
                        "wakeups.listener_lost", purpose=self._purpose, error=describe(error)
                    )
                reported = True
            finally:
                self.connected = False
            await retry.wait()

    async def _listen(self, connection: Connection) -> None:
        self._wake_up.set()
        while True:
            async for _ in connection.notifies(timeout=_IDLE_CHECK_SECONDS):
                self._wake_up.set()
            await connection.execute("SELECT 1")

"""Following the log: hints wake it, polling is the guarantee, and only `stop` ends it."""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future

import msgspec
import structlog
from eventsourcing.persistence import (
    ApplicationRecorder,
    Notification,
    OperationalError,
    Subscription,
)

from pulse.eventstore.library.engine import Engine, Rows, fetch_all
from pulse.eventstore.library.errors import is_for_good, library_errors
from pulse.eventstore.library.rows import notification_of
from pulse.eventstore.library.tables import Table, statement
from pulse.postgres import Database, DatabaseUnavailable, Listener, WakeUp

_log = structlog.get_logger(__name__)


class FollowLimits(msgspec.Struct, frozen=True, kw_only=True):
    """`listen_seconds`: how long the first look waits for LISTEN to be in force.

    `poll_seconds`: how long a lost hint can delay an event. `window_events`: the most that is read
    at once, wanted or not.
    """

    listen_seconds: float = 5.0
    poll_seconds: float = 1.0
    window_events: int = 500


class LogFollower:
    """Looks for what comes after a position. Lives on the loop; has the listener's connection."""

    def __init__(
        self,
        database: Database,
        table: Table,
        topics: Sequence[str],
        limits: FollowLimits,
    ) -> None:
        self._database = database
        self._topics = list(topics)
        self._limits = limits
        self._select = statement("select_window", stored_events=table)
        self._wake_up = WakeUp()
        self._listener = Listener(database, table.channel, self._wake_up, role="subscription")
        self._listening: asyncio.Task[None] | None = None
        self._away = False

    async def next_events(self, after: int) -> tuple[int, list[Notification]]:
        """The next wanted events, as soon as there are any, and how far it has looked.

        While Postgres is away it waits and says so in the log.

        Raises:
            DatabaseUnavailable: it will not be better: there is no such table, or no right to it.
        """
        if self._listening is None:
            self._listening = asyncio.ensure_future(self._listener.run())
            await self._wake_up.wait(self._limits.listen_seconds)
        while True:
            rows = await self._look(after)
            if rows:
                after = rows[-1][0]
            wanted = [notification_of(row) for row in rows if row[5]]
            if wanted:
                return after, wanted
            if len(rows) < self._limits.window_events:
                await self._wake_up.wait(self._limits.poll_seconds)

    async def close(self) -> None:
        """End the listener and its connection."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait({self._listening})

    async def _look(self, after: int) -> Rows:
        """The next events, wanted or not; none while Postgres is away."""
        parameters = (self._topics, after, self._limits.window_events)
        try:
            rows = await fetch_all(self._database, self._select, parameters)
        except DatabaseUnavailable as error:
            if is_for_good(error):
                raise
            if not self._away:
                _log.warning("subscription.postgres_away", error=str(error))
            self._away = True
            return []
        self._away = False
        return rows


class PulseSubscription(Subscription[ApplicationRecorder]):
    """The library's iterator over it, for one thread; any other may stop it, at any time."""

    def __init__(
        self, recorder: ApplicationRecorder, engine: Engine, follower: LogFollower, gt: int | None
    ) -> None:
        super().__init__(recorder=recorder, gt=gt)
        self._engine = engine
        self._follower = follower
        self._events: deque[Notification] = deque()
        self._lock = threading.RLock()  # a finalizer may come upon its own thread
        self._awaited: Future[tuple[int, list[Notification]]] | None = None
        engine.adopt(self)

    def __next__(self) -> Notification:
        while not self._events and not self._has_been_stopped:
            self._wait()
        if self._has_been_stopped:
            raise StopIteration
        return self._events.popleft()

    def stop(self) -> None:
        """End it; who waits in `next` is let go at once."""
        with self._lock:
            if self._has_been_stopped:
                return
            super().stop()
            if self._awaited is not None:
                self._awaited.cancel()
        with contextlib.suppress(OperationalError):  # then the engine is closed, listener and all
            self._engine.submit(self._follower.close())

    def __del__(self) -> None:
        if hasattr(self, "_awaited"):
            self.stop()

    def _wait(self) -> None:
        """Wait for more events. An interrupted wait takes nothing, so the next one misses none."""
        with self._lock:
            if self._has_been_stopped:
                return
            awaited = self._engine.submit(
                self._follower.next_events(self._last_notification_id or 0)
            )
            self._awaited = awaited
        try:
            with library_errors():
                self._last_notification_id, events = awaited.result()
            self._events.extend(events)
        except CancelledError:
            if not self._has_been_stopped:
                raise OperationalError("the recorder's factory was closed meanwhile") from None
        finally:
            awaited.cancel()

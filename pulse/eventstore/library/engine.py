"""What a factory's recorders share: Pulse's own appenders and pool, on one loop in one thread."""

import asyncio
import contextlib
import weakref
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, LiteralString, Protocol, TypeVar

from eventsourcing.persistence import OperationalError, StoredEvent
from psycopg import sql

from pulse.eventstore.append_statements import AppendStatements
from pulse.eventstore.appender import Appender, AppendLimits
from pulse.eventstore.batch import Positions
from pulse.eventstore.library.errors import library_errors
from pulse.eventstore.library.loop_thread import LoopThread
from pulse.postgres import Connection, Database, DatabaseUnavailable, Notifier

T = TypeVar("T")
Rows = list[tuple[Any, ...]]
_DRAIN_SECONDS = 2.0


class Stoppable(Protocol):
    """What the engine stops before it closes."""

    def stop(self) -> None:
        """Stop, soon and without waiting."""


class Writer:
    """The appender of one table and, where somebody may listen, its wake-ups. Lives on the loop."""

    def __init__(
        self,
        database: Database,
        statements: AppendStatements,
        channel: str | None,
        limits: AppendLimits | None,
    ) -> None:
        self.appender = Appender(
            lambda: database.connect("appender"),
            on_commit=self.announce,
            limits=limits,
            statements=statements,
        )
        self._database = database
        self._channel = channel
        self._announced = False
        self._notifier = None if channel is None else Notifier(database, channel)
        self._appending = asyncio.ensure_future(self.appender.run())
        self._notifying = None
        if self._notifier is not None:
            self._notifying = asyncio.ensure_future(self._notifier.run())

    def announce(self) -> None:
        """Let it be known, soon, that the table has grown."""
        if self._notifier is not None:
            self._announced = True
            self._notifier.notify()

    async def close(self) -> None:
        """Write what waits, briefly; then the last hint, since stock listeners never poll."""
        self.appender.drain()
        await asyncio.wait({self._appending}, timeout=_DRAIN_SECONDS)
        tasks = {task for task in (self._appending, self._notifying) if task is not None}
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        if self._announced and self._channel is not None:
            with contextlib.suppress(DatabaseUnavailable):
                async with self._database.connection() as connection:
                    notify = sql.SQL("NOTIFY {}").format(sql.Identifier(self._channel))
                    await connection.execute(notify)


class Engine:
    """The synchronous, thread-safe side of it. Ends with `close`, or when nobody has it any more.

    Every wait has a bound of Pulse's own: the appender's deadline, the server's limits, the
    pool's.
    """

    def __init__(self, conninfo: str, *, pool_size: int, limits: AppendLimits | None) -> None:
        self.database = Database(conninfo, pool_size=pool_size)
        self._limits = limits
        self._thread = LoopThread("pulse-eventstore")
        self._writers: list[Writer] = []
        self._dependants: weakref.WeakSet[Stoppable] = weakref.WeakSet()
        self._close = weakref.finalize(self, _close, self._thread, self.database, self._writers)
        self._thread.run(self.database.open())

    def writer(self, statements: AppendStatements, channel: str | None) -> Writer:
        """An appender to a table; `channel` is where its commits are announced, if anywhere."""

        async def start() -> Writer:
            return Writer(self.database, statements, channel, self._limits)

        writer = self._thread.run(start())
        self._writers.append(writer)
        return writer

    def append(self, writer: Writer, events: Sequence[StoredEvent]) -> Positions:
        """Append through it, in one commit with whoever else does so at the time.

        Raises:
            IntegrityError: a version is taken; nothing was written.
            OperationalError: nothing was written, or that is not known: its cause tells.
        """
        with library_errors():
            return self._thread.run(writer.appender.append(events))

    def announce(self, writer: Writer) -> None:
        """Say that its table has grown by other means."""

        async def announce() -> None:
            writer.announce()

        with contextlib.suppress(OperationalError):
            self._thread.submit(announce())

    def read(self, statement: LiteralString, parameters: Sequence[Any]) -> Rows:
        """The rows of a query, read through the pool."""
        with library_errors():
            return self._thread.run(fetch_all(self.database, statement, parameters))

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run it on the loop."""
        return self._thread.submit(coroutine)

    def adopt(self, dependant: Stoppable) -> None:
        """Stop it before this closes."""
        self._dependants.add(dependant)

    def close(self) -> None:
        """Stop what depends on it, let the appenders finish, end connections and thread."""
        for dependant in list(self._dependants):
            dependant.stop()
        self._close()


async def fetch_all(
    database: Database, statement: LiteralString, parameters: Sequence[Any]
) -> Rows:
    """The rows of a query that changes nothing, as `Database.read` has them."""

    async def query(connection: Connection) -> Rows:
        cursor = connection.cursor(binary=True)
        await cursor.execute(statement, parameters)
        return await cursor.fetchall()

    return await database.read(query)


def _close(thread: LoopThread, database: Database, writers: list[Writer]) -> None:
    async def close() -> None:
        await asyncio.gather(*(writer.close() for writer in writers))
        await database.close()

    try:
        if not thread.is_current:
            thread.run(close())
    finally:
        thread.stop()

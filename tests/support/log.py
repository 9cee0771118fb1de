"""A running event store, and direct access to the log and the server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from eventsourcing.persistence import StoredEvent

from pulse.application.in_process import InProcessOrders
from pulse.application.origin import Origin, system_clock
from pulse.eventstore import (
    LOG_LOCK,
    Appender,
    AppendLimits,
    EventStore,
    PositionBeyondLog,
    RecordedEvent,
)
from pulse.postgres import Connection, Database
from pulse.projections.order_view import OrderReader
from pulse.retry import RetryPolicy
from pulse.spans import Spans
from tests.support.database import as_superuser
from tests.support.waiting import until

Row = tuple[Any, ...]
Key = tuple[UUID | str, int]
AppendResult = tuple[int, ...] | BaseException

LONG_DEADLINES = AppendLimits(
    answer_seconds=15.0, retry=RetryPolicy(first_seconds=0.02, max_seconds=0.05)
)
"""Long deadlines, for tests of other things than deadlines."""


class Commits:
    """An on_commit that counts its calls: one for each statement that wrote something."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


async def read_log(store: EventStore, *, after: int, limit: int) -> list[RecordedEvent]:
    """Up to `limit` events after a position (exclusive), in commit order; none beyond the end."""
    try:
        return list((await store.read_log_page(after=after, limit=limit)).records)
    except PositionBeyondLog:
        return []


def nothing() -> None:
    """An on_commit without effect, so that every notification is lost."""


def write(conninfo: str, *events: StoredEvent) -> None:
    """Insert events in one transaction without Pulse's code."""
    with psycopg.connect(conninfo) as connection:
        for event in events:
            connection.execute(
                "INSERT INTO stored_events (originator_id, originator_version, topic, state)"
                " VALUES (%s, %s, %s, %s)",
                (event.originator_id, event.originator_version, event.topic, event.state),
            )
        connection.execute("NOTIFY stored_events")


@contextlib.asynccontextmanager
async def running_appender(
    database: Database,
    *,
    on_commit: Callable[[], None] = nothing,
    limits: AppendLimits = LONG_DEADLINES,
) -> AsyncIterator[Appender]:
    """A running appender."""
    appender = Appender(lambda: database.connect("appender"), on_commit=on_commit, limits=limits)
    async with running(appender.run):
        yield appender


@contextlib.asynccontextmanager
async def running_store(
    database: Database,
    *,
    on_commit: Callable[[], None] = nothing,
    limits: AppendLimits = LONG_DEADLINES,
    spans: Spans | None = None,
) -> AsyncIterator[EventStore]:
    """An event store with a running appender."""
    store = EventStore(database, on_commit=on_commit, limits=limits, spans=spans)
    async with running(store.appender.run):
        yield store


@contextlib.asynccontextmanager
async def running(run: Callable[[], Awaitable[None]]) -> AsyncIterator["asyncio.Future[None]"]:
    """A background task, cancelled on exit. An exception of the task is raised."""
    task = asyncio.ensure_future(run())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def append_all(
    appender: Appender, appends: Sequence[Sequence[StoredEvent]]
) -> list[AppendResult]:
    """Execute all appends concurrently; returns the positions or the error of each, in order."""
    return await asyncio.gather(*map(appender.append, appends), return_exceptions=True)


async def append_singly(appender: Appender, events: Sequence[StoredEvent]) -> list[AppendResult]:
    """Append all events concurrently, each in its own append."""
    return await append_all(appender, [(event,) for event in events])


async def fetch(database: Database, statement: LiteralString, *parameters: object) -> list[Row]:
    """Execute a statement on a pooled connection, replacing a broken one; returns its rows."""

    async def query(connection: Connection) -> list[Row]:
        cursor = await connection.execute(statement, parameters)
        return await cursor.fetchall() if cursor.description else []

    return await database.read(query)


async def fetch_as_superuser(
    database: Database, statement: LiteralString, *parameters: object
) -> list[Row]:
    """Execute a statement that the role of processes may not execute; returns its rows."""
    async with await psycopg.AsyncConnection.connect(
        as_superuser(database.conninfo), autocommit=True
    ) as connection:
        cursor = await connection.execute(statement, parameters)
        return await cursor.fetchall() if cursor.description else []


def stored_event(record: RecordedEvent) -> StoredEvent:
    """The stored event of a log record."""
    return StoredEvent(record.originator_id, record.originator_version, record.topic, record.state)


async def stored_log(database: Database) -> dict[Key, tuple[int, bytes]]:
    """The whole log: position and state by stream and version."""
    rows = await fetch(
        database,
        "SELECT originator_id, originator_version, notification_id, state FROM stored_events",
    )
    return {(row[0], row[1]): (row[2], bytes(row[3])) for row in rows}


@contextlib.asynccontextmanager
async def log_locked(database: Database) -> AsyncIterator[Connection]:
    """Hold the append lock on another connection."""
    async with await database.connect("test") as connection:
        await connection.execute("SELECT pg_advisory_lock(%s)", (LOG_LOCK,))
        yield connection


async def unlock(connection: Connection) -> None:
    """Release the append lock."""
    await connection.execute("SELECT pg_advisory_unlock(%s)", (LOG_LOCK,))


async def terminate(database: Database, purpose: str) -> int:
    """Terminate every backend whose application name has that purpose; returns their number."""
    terminated = await fetch_as_superuser(
        database,
        """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name LIKE %s""",
        f"pulse:{purpose}@%",
    )
    return len(terminated)


async def until_waiting_for_lock(
    database: Database, purpose: str = "appender", count: int = 1
) -> None:
    """Wait until `count` connections whose application name has the purpose wait for a lock."""

    async def waiting() -> bool:
        rows = await fetch_as_superuser(
            database,
            """SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name LIKE %s
                  AND wait_event_type = 'Lock'""",
            f"pulse:{purpose}@%",
        )
        return bool(rows[0][0] >= count)

    await until(waiting, f"{count} of the purpose {purpose} wait for a lock")


def orders_on(database: Database, store: EventStore) -> InProcessOrders:
    """The use cases on this store, with the system's clock."""
    reader = OrderReader(database, store.mapper)
    return InProcessOrders(store, reader, system_clock, Origin("host:1:abc"))

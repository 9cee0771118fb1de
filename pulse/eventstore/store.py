"""The event store: append to the log, read a stream, read the log."""

from collections.abc import Callable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, LiteralString
from uuid import UUID

from eventsourcing.persistence import StoredEvent

from pulse.domain import Event
from pulse.eventstore.appender import Appender, AppendLimits
from pulse.eventstore.mapper import EventMapper
from pulse.eventstore.records import RecordedEvent
from pulse.postgres import Connection, Database, load_sql

LOG_CHANNEL = "stored_events"
"""The wake-up channel, the library's own, so that its subscriptions wake too."""

_SELECT_STREAM = load_sql(__package__, "select_stream")
_SELECT_STREAMS = load_sql(__package__, "select_streams")
_SELECT_LOG = load_sql(__package__, "select_log")


class EventStore:
    """Pulse's log. Appends go through the process's one appender, reads through its pool."""

    def __init__(
        self,
        database: Database,
        *,
        on_commit: Callable[[], None],
        limits: AppendLimits | None = None,
    ) -> None:
        self.mapper = EventMapper()
        self.appender = Appender(
            lambda: database.connect("appender"), on_commit=on_commit, limits=limits
        )
        self._database = database

    async def append(self, event: Event) -> int:
        """Append one event and return its position; errors as `Appender.append`."""
        positions = await self.appender.append((self.mapper.to_stored_event(event),))
        return positions[0]

    async def append_stored(self, events: Sequence[StoredEvent]) -> tuple[int, ...]:
        """Append stored events, all or none, and return their positions."""
        return await self.appender.append(events)

    async def read_stream(self, originator_id: UUID) -> list[RecordedEvent]:
        """One stream, oldest first; empty for one that never was."""
        return await self._select(_SELECT_STREAM, (originator_id,))

    async def read_streams(
        self, originator_ids: Sequence[UUID]
    ) -> dict[UUID, tuple[RecordedEvent, ...]]:
        """Several streams, each oldest first; those that never were are left out."""
        records = await self._select(_SELECT_STREAMS, (list(originator_ids),))
        by_stream = groupby(records, key=attrgetter("originator_id"))
        return {originator_id: tuple(stream) for originator_id, stream in by_stream}

    async def read_log(self, *, after: int, limit: int) -> list[RecordedEvent]:
        """The log after that position (exclusive), in commit order, at most `limit` events."""
        return await self._select(_SELECT_LOG, (after, limit))

    async def _select(
        self, statement: LiteralString, parameters: Sequence[Any]
    ) -> list[RecordedEvent]:
        return await self._database.read(
            lambda connection: select_records(connection, statement, parameters)
        )


async def select_log(connection: Connection, *, after: int, limit: int) -> list[RecordedEvent]:
    """The log after a position, read on a connection (and in a transaction) of the caller's."""
    return await select_records(connection, _SELECT_LOG, (after, limit))


async def select_records(
    connection: Connection, statement: LiteralString, parameters: Sequence[Any]
) -> list[RecordedEvent]:
    """The records that a select of the log's columns finds."""
    cursor = connection.cursor(binary=True)
    await cursor.execute(statement, parameters)
    return [RecordedEvent.from_row(row) for row in await cursor.fetchall()]

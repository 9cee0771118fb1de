"""Rebuild: the order queue made anew from the log beside the live one, and swapped in whole.

The new tables lie in a schema of their own under the same names, and the connection's search path
leads there first. Rows are copied while the live projection goes on; where an event does not fit,
and at the end, the very statements of the live projection fill them. Holding the live position's
row, they are brought to exactly that position and take the live tables' place in one transaction:
no reader sees fewer rows or an older state. No claim is touched.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import psycopg
import structlog

from pulse.errors import PulseError
from pulse.eventstore import EventMapper, RecordedEvent, select_log
from pulse.postgres import (
    UNAVAILABLE_ERRORS,
    Connection,
    Database,
    DatabaseUnavailable,
    describe,
    load_sql,
)
from pulse.projections.projector import PROJECTION_NAME
from pulse.projections.queue_changes import QueueChanges
from pulse.projections.queue_writer import POISON, QueueWriter

_log = structlog.get_logger(__name__)

REBUILD_LOCK: Final = 0x50554C53_45000003
"""The advisory lock that lets one rebuild run at a time."""

_BATCH_EVENTS: Final = 5_000
_SWAP_ATTEMPTS: Final = 10

_BEGIN_REBUILD = load_sql(__package__, "begin_rebuild")
_COMPLETE_REBUILT = load_sql(__package__, "complete_rebuilt")
_SELECT_DEPENDANTS = load_sql(__package__, "select_dependants")
_SELECT_POSITION = load_sql(__package__, "select_position")
_WAIT_FOR_POSITION = load_sql(__package__, "wait_for_position")
_SWAP_REBUILT = load_sql(__package__, "swap_rebuilt")

_Write = Callable[[Connection, QueueChanges], Awaitable[None]]
OnProgress = Callable[[int, int], None]
"""Told now and then: the position reached, and the live one."""


class RebuildRunning(PulseError):
    """Another rebuild runs on this database; it will do."""


class RebuildBlocked(PulseError):
    """Views that are not Pulse's are built on the queue's tables and would be lost in the swap."""


class Rebuilt(msgspec.Struct, frozen=True):
    """The queue was built anew from `events` events and stands at `position`."""

    position: int
    events: int
    parked_orders: int


class _Batch(msgspec.Struct, frozen=True):
    """Events up to and including `end`, and what they change; None where one cannot be applied."""

    records: list[RecordedEvent]
    end: int
    changes: QueueChanges | None


class Rebuild:
    """One rebuild on a connection of its own; orders may be posted and split meanwhile."""

    def __init__(
        self,
        database: Database,
        mapper: EventMapper,
        on_progress: OnProgress,
        *,
        batch_events: int = _BATCH_EVENTS,
    ) -> None:
        self._database = database
        self._writer = QueueWriter(mapper, end_claims=False)
        self._on_progress = on_progress
        self._batch_events = batch_events
        self._position = 0
        self._events = 0
        self._parked = 0

    async def run(self) -> Rebuilt:
        """Build the new tables and swap them in.

        Raises:
            RebuildRunning: another one is under way.
            RebuildBlocked: somebody's own views hold on to the live tables.
            DatabaseUnavailable: the live tables are as they were.
            EventTooNew: the same; newer code must rebuild.
        """
        try:
            async with self._connection() as connection:
                await _refuse_dependants(connection)
                await connection.execute(_BEGIN_REBUILD)
                await self._catch_up_while_live_goes_on(connection)
                await connection.execute(_COMPLETE_REBUILT)
                await self._catch_up_while_live_goes_on(connection)
                await self._swap(connection)
        except UNAVAILABLE_ERRORS as error:
            raise DatabaseUnavailable(describe(error)) from error
        return Rebuilt(self._position, self._events, self._parked)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        async with await self._database.connect("rebuild") as connection:
            await connection.execute("SET statement_timeout = 0")
            await connection.execute("SET idle_in_transaction_session_timeout = '60s'")
            cursor = await connection.execute(
                "SELECT pg_try_advisory_lock(%s), current_schema()", (REBUILD_LOCK,)
            )
            row = await cursor.fetchone()
            if row is None or not row[0]:
                raise RebuildRunning("another rebuild is running on this database: let it finish")
            yield connection

    async def _catch_up_while_live_goes_on(self, connection: Connection) -> None:
        """Come to the live position. While one batch is written the next one is read."""
        live = await _live_position(connection, _SELECT_POSITION)
        following = asyncio.ensure_future(self._read(self._position, live))
        try:
            while self._position < live:
                self._on_progress(self._position, live)
                batch = await following
                following = asyncio.ensure_future(self._read(batch.end, live))
                async with connection.transaction():
                    await self._apply(connection, batch, self._writer.copy)
                live = await _live_position(connection, _SELECT_POSITION)
            self._on_progress(self._position, live)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _swap(self, connection: Connection) -> None:
        for attempt in range(1, _SWAP_ATTEMPTS + 1):
            before = self._position, self._events, self._parked
            try:
                async with connection.transaction():
                    live = await _live_position(connection, _WAIT_FOR_POSITION)
                    while self._position < live:
                        batch = await self._read(self._position, live)
                        await self._apply(connection, batch, self._writer.write)
                    await connection.execute(_SWAP_REBUILT)
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
                if attempt == _SWAP_ATTEMPTS:
                    raise
                _log.info("rebuild.swap_again", attempt=attempt, reason=describe(error))
                self._position, self._events, self._parked = before
            else:
                return

    async def _read(self, after: int, live: int) -> _Batch:
        """The next batch, none of it past the live position, and what it changes."""
        if after >= live:
            return _Batch([], live, None)
        read = await self._database.read(
            lambda connection: select_log(connection, after=after, limit=self._batch_events)
        )
        records = [record for record in read if record.position <= live]
        try:
            changes = self._writer.changes_of(records)
        except POISON:
            changes = None
        return _Batch(records, records[-1].position if records else live, changes)

    async def _apply(self, connection: Connection, batch: _Batch, write: _Write) -> None:
        if batch.records:
            async with _search_path_to_rebuilt(connection):
                if not await self._is_written(connection, batch, write):
                    await self._apply_or_park(connection, batch.records)
        self._events += len(batch.records)
        self._position = batch.end

    async def _is_written(self, connection: Connection, batch: _Batch, write: _Write) -> bool:
        """Whether the batch could be written as it was read; not where orders are set aside."""
        if batch.changes is None or self._parked:
            return False
        try:
            async with connection.transaction():
                await write(connection, batch.changes)
        except POISON:
            return False
        return True

    async def _apply_or_park(
        self, connection: Connection, records: Sequence[RecordedEvent]
    ) -> None:
        if self._parked:
            records = await self._writer.without_parked(connection, records)
        try:
            async with connection.transaction():
                await self._writer.apply(connection, records)
        except POISON as error:
            if len(records) == 1:
                await self._writer.park(connection, records[0], str(error))
                self._parked += 1
                return
            middle = len(records) // 2
            await self._apply_or_park(connection, records[:middle])
            await self._apply_or_park(connection, records[middle:])


@asynccontextmanager
async def _search_path_to_rebuilt(connection: Connection) -> AsyncIterator[None]:
    """Within the transaction, names lead to the new tables first."""
    cursor = await connection.execute("SELECT current_setting('search_path')")
    row = await cursor.fetchone()
    before = row[0] if row else "public"
    await connection.execute(
        "SELECT set_config('search_path', 'pulse_rebuild,' || %s, true)", (before,)
    )
    yield
    await connection.execute("SELECT set_config('search_path', %s, true)", (before,))


async def _refuse_dependants(connection: Connection) -> None:
    cursor = await connection.execute(_SELECT_DEPENDANTS)
    names = [str(row[0]) for row in await cursor.fetchall()]
    if names:
        raise RebuildBlocked(
            f"these are built on the queue's tables: {', '.join(names)}; build them on the view "
            "order_queue_status instead, or drop them and make them again after the rebuild"
        )


async def _live_position(connection: Connection, statement: str) -> int:
    cursor = await connection.execute(statement, (PROJECTION_NAME,))
    row = await cursor.fetchone()
    return row[0] if row else 0

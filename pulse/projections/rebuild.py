"""Rebuild: every order of the queue is computed again from the log, and replaced where it differs.

Window by window of the log: the code of the live projection fills temporary tables of the same
names; then, holding the projection's position, they are brought to exactly that position and
compared with the live tables, and the orders that differ are replaced in one transaction. So no
reader sees fewer rows, half an order or an older state, and the live projection waits for one
window at most. No claim is touched. Unqualified names on its connection lead to Postgres' own
objects and to the temporary tables alone.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Final, LiteralString
from uuid import UUID

import msgspec
import psycopg
from psycopg.sql import SQL, Composed, Identifier

from pulse.errors import PulseError
from pulse.eventstore import EventMapper, RecordedEvent, select_streams, select_streams_begun
from pulse.postgres import Connection, Database, DatabaseUnavailable, describe, fetch, load_sql
from pulse.projections.audit import read_window
from pulse.projections.parking import Blame, FaultUnclear, Parking, blame_of
from pulse.projections.position import BEFORE_LOG, PROJECTION_NAME
from pulse.projections.queue_writer import ORDER_COLUMNS, SLICE_COLUMNS, QueueWriter

REBUILD_LOCK: Final = 0x50554C53_45000003
"""The advisory lock that lets one rebuild run at a time."""

_WINDOW_EVENTS: Final = 2_000
"""No more rows than the live projection writes at once: a session that prepares a statement for
seconds while it holds locks looks stalled."""

_TRY_REBUILD_LOCK = load_sql(__package__, "try_rebuild_lock")
_SELECT_UNFILLED_COLUMNS = load_sql(__package__, "select_unfilled_columns")
_BEGIN_REBUILD = load_sql(__package__, "begin_rebuild")
_HOLD_LIVE_POSITION = load_sql(__package__, "hold_live_position")
_INSERT_DIFFERING = load_sql(__package__, "insert_differing")
_REPLACE_DIFFERING = load_sql(__package__, "replace_differing")
_END_REBUILD = load_sql(__package__, "end_rebuild")
_SELECT_BLOCKERS = load_sql(__package__, "select_rebuild_blockers")

_COLUMNS: Final = [
    *(f"order_queue.{column}" for column in ORDER_COLUMNS),
    *(f"order_slices.{column}" for column in SLICE_COLUMNS),
]

OnProgress = Callable[[int, int], None]
"""Called before each window and at the end with the position reached, and the projected one."""


class RebuildRunning(PulseError):
    """Another rebuild runs on this database."""


class RebuildBlocked(PulseError):
    """Something blocks the rebuild; the message names it. Each order is as it was, or rebuilt."""


class Rebuilt(msgspec.Struct, frozen=True):
    """The queue was compared with `events` events up to `position`; `replaced` orders differed."""

    position: int
    events: int
    replaced: int
    parked_orders: int


class _Window(msgspec.Struct, frozen=True):
    """The streams that begin after `after` and up to `until`, as far as they were `projected`."""

    after: int
    until: int
    projected: int
    records: list[RecordedEvent]


class Rebuild:
    """One rebuild on a connection of its own; orders may be posted and split meanwhile."""

    def __init__(
        self,
        database: Database,
        mapper: EventMapper,
        on_progress: OnProgress,
        *,
        window_events: int = _WINDOW_EVENTS,
    ) -> None:
        self._database = database
        self._writer = QueueWriter(mapper, end_claims=False)
        self._on_progress = on_progress
        self._window_events = window_events
        self._live = ""
        self._rebuilt = Rebuilt(0, 0, 0, 0)

    async def run(self) -> Rebuilt:
        """Compare every window, and replace what differs.

        Where it raises, each order of the queue is as it was or rebuilt.

        Raises:
            RebuildRunning: another one is under way.
            RebuildBlocked: the queue has columns of newer code, its tables refuse a right row, or
                other sessions hold them.
            DatabaseUnavailable: Postgres is away.
            EventTooNew: newer code must rebuild.
        """
        try:
            async with self._connection() as connection:
                async with aclosing(self._windows()) as windows:
                    async for window in windows:
                        await self._rebuild(connection, window)
                await connection.execute(self._statement(_END_REBUILD))
        except (psycopg.Error, FaultUnclear) as error:
            raise DatabaseUnavailable(describe(error)) from error
        position = self._rebuilt.position
        self._on_progress(position, position)
        return self._rebuilt

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        async with await self._database.connect("rebuild") as connection:
            ((self._live, is_free),) = await fetch(connection, _TRY_REBUILD_LOCK, (REBUILD_LOCK,))
            if not is_free:
                raise RebuildRunning("another rebuild is running on this database: let it finish")
            await connection.execute(self._statement(_BEGIN_REBUILD))
            statement = self._statement(_SELECT_UNFILLED_COLUMNS)
            unfilled = [str(row[0]) for row in await fetch(connection, statement, (_COLUMNS,))]
            if unfilled:
                raise RebuildBlocked(
                    f"the queue has columns that this code does not fill ({', '.join(unfilled)}): "
                    "drop them, or run the rebuild of the newer code that has them"
                )
            yield connection

    def _statement(self, text: LiteralString) -> Composed:
        """The statement with the live schema's name."""
        return SQL(text).format(live=Identifier(self._live))

    async def _windows(self) -> AsyncGenerator[_Window, None]:
        """Each window up to what was projected at first; while one is rebuilt the next is read."""
        following = asyncio.ensure_future(self._read(BEFORE_LOG))
        end = (await following).projected
        try:
            while True:
                window = await following
                self._on_progress(max(0, window.after), max(end, window.until))
                if window.until < end:
                    following = asyncio.ensure_future(self._read(window.until))
                yield window
                if window.until >= end:
                    return
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _read(self, after: int) -> _Window:
        async def read(connection: Connection) -> _Window:
            until, projected = await read_window(connection, after, self._window_events)
            records = await select_streams_begun(
                connection, after=after, until=until, position=projected
            )
            return _Window(after, until, projected, records)

        return await self._database.read(read)

    async def _rebuild(self, connection: Connection, window: _Window) -> None:
        order_ids = list({record.originator_id for record in window.records})
        try:
            async with connection.transaction():
                parking = Parking(self._writer, connection)
                await parking.apply(window.records)
                events = len(window.records) + await self._catch_up(
                    connection, parking, order_ids, window.projected
                )
                parameters = {
                    "order_ids": order_ids,
                    "after": window.after,
                    "until": window.until,
                }
                differing = await connection.execute(
                    self._statement(_INSERT_DIFFERING), parameters, prepare=True
                )
                if differing.rowcount:
                    await connection.execute(self._statement(_REPLACE_DIFFERING))
        except psycopg.errors.LockNotAvailable as error:
            raise await self._blocked(connection) from error
        except psycopg.Error as error:
            if blame_of(error) is not Blame.EVENT:
                raise
            refused = f"the queue's tables refuse an order: {describe(error)}"
            raise RebuildBlocked(refused) from error
        so_far = self._rebuilt
        self._rebuilt = Rebuilt(
            position=window.until,
            events=so_far.events + events,
            replaced=so_far.replaced + differing.rowcount,
            parked_orders=so_far.parked_orders + len(parking.parked),
        )

    async def _catch_up(
        self, connection: Connection, parking: Parking, order_ids: list[UUID], projected: int
    ) -> int:
        """Hold the position, and apply what came to these orders since; returns how many events."""
        ((position,),) = await fetch(
            connection, self._statement(_HOLD_LIVE_POSITION), (PROJECTION_NAME,)
        )
        if position <= projected:
            return 0
        records = await self._database.read(
            lambda reader: select_streams(reader, order_ids, after=projected, until=position)
        )
        await parking.apply(records)
        return len(records)

    async def _blocked(self, connection: Connection) -> RebuildBlocked:
        rows = await fetch(connection, self._statement(_SELECT_BLOCKERS))
        named = "; ".join(str(row[0]) for row in rows) or "none was seen"
        return RebuildBlocked(
            f"other sessions hold the tables of the queue: {named}. End them (pg_terminate_backend "
            "with the pid, or ROLLBACK PREPARED) or wait until they end, and run the rebuild again"
        )

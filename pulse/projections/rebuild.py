"""Rebuild: every order of the queue is computed again from the log, and replaced where it differs.

Window by window of the log. What the orders that begin in a window must be is computed first; then,
holding the projection's position, it is brought to exactly that position and compared with the
queue. The orders that differ are taken out and written again by the code of the live projection, in
one transaction. So no reader sees fewer rows, half an order or an older state, and the live
projection waits for one window at most. An order that stays pending and is not parked keeps its
claim.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgspec
import psycopg
from psycopg.sql import SQL, Identifier

from pulse.errors import PulseError
from pulse.eventstore import (
    EventMapper,
    EventTooNew,
    RecordedEvent,
    select_log_between,
    select_streams_begun,
)
from pulse.postgres import Connection, Database, DatabaseUnavailable, describe, fetch, load_sql
from pulse.projections.audit import read_window
from pulse.projections.parking import (
    Blame,
    FaultUnclear,
    Parking,
    blame_of,
    forget_orders,
)
from pulse.projections.position import BEFORE_LOG, wait_for_position
from pulse.projections.queue_writer import (
    ORDER_COLUMNS,
    PENDING_COLUMNS,
    SLICE_COLUMNS,
    QueueChanges,
    QueueWriter,
    Row,
)

REBUILD_LOCK: Final = 0x50554C53_45000003
"""The advisory lock that lets one rebuild run at a time."""

_WINDOW_EVENTS: Final = 5_000

_TRY_REBUILD_LOCK = load_sql(__package__, "try_rebuild_lock")
_SELECT_UNFILLED_COLUMNS = load_sql(__package__, "select_unfilled_columns")
_SELECT_ORDERS: Final = SQL(load_sql(__package__, "select_orders_to_compare")).format(
    columns=SQL(", ").join(map(Identifier, ORDER_COLUMNS))
)
_SELECT_SLICES_OF = load_sql(__package__, "select_slices_of")
_SELECT_PENDING_OF = load_sql(__package__, "select_pending_of")
_SELECT_PARKED_AMONG = load_sql(__package__, "select_parked_among")
_END_REBUILD = load_sql(__package__, "end_rebuild")
_SELECT_BLOCKERS = load_sql(__package__, "select_rebuild_blockers")

_COLUMNS: Final = [
    *(f"order_queue.{column}" for column in ORDER_COLUMNS),
    *(f"pending_orders.{column}" for column in PENDING_COLUMNS),
    *(f"scheduled_slices.{column}" for column in SLICE_COLUMNS),
]
_PENDING_FROM_EVENTS: Final = PENDING_COLUMNS[:5]
_ORDER_ID: Final = ORDER_COLUMNS.index("order_id")
_CREATED_POSITION: Final = ORDER_COLUMNS.index("created_position")

OnProgress = Callable[[int, int], None]
"""Called before each window and at the end with the position reached, and the projected one."""

Streams: TypeAlias = dict[UUID, list[RecordedEvent]]


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


class _QueuedOrder(msgspec.Struct, frozen=True, gc=False):
    """What the queue has of an order: its row, its slices, its row among the pending orders."""

    row: tuple[Any, ...]
    slices: tuple[Any, ...] | None
    pending: tuple[Any, ...] | None


class _Window(msgspec.Struct, frozen=True):
    """The streams that begin after `after` and up to `until`, as far as they were `projected`.

    `changes` are what each stream makes of an empty queue; None where that cannot be computed.
    """

    after: int
    until: int
    projected: int
    streams: Streams
    changes: dict[UUID, QueueChanges | None]


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
        self._writer = QueueWriter(mapper)
        self._on_progress = on_progress
        self._window_events = window_events
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
            async with self._connection() as connection, self._unlimited() as reader:
                async with aclosing(self._windows(reader)) as windows:
                    async for window in windows:
                        await self._rebuild(connection, window)
                await connection.execute(_END_REBUILD)
        except psycopg.Error as error:
            raise DatabaseUnavailable(describe(error)) from error
        position = self._rebuilt.position
        self._on_progress(position, position)
        return self._rebuilt

    @asynccontextmanager
    async def _unlimited(self) -> AsyncIterator[Connection]:
        """A connection whose statements may take long: a window of a cold log is random reads."""
        async with await self._database.connect("rebuild") as connection:
            await connection.execute("SET statement_timeout = 0")
            yield connection

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        async with self._unlimited() as connection:
            ((is_free,),) = await fetch(connection, _TRY_REBUILD_LOCK, (REBUILD_LOCK,))
            if not is_free:
                raise RebuildRunning("another rebuild is running on this database: let it finish")
            rows = await fetch(connection, _SELECT_UNFILLED_COLUMNS, (_COLUMNS,))
            if unfilled := [str(row[0]) for row in rows]:
                raise RebuildBlocked(
                    f"the queue has columns that this code does not fill ({', '.join(unfilled)}): "
                    "drop them, or run the rebuild of the newer code that has them"
                )
            yield connection

    async def _windows(self, reader: Connection) -> AsyncGenerator[_Window, None]:
        """Each window up to what was projected at first; while one is rebuilt the next is read."""
        following = asyncio.ensure_future(self._read(reader, BEFORE_LOG))
        end = (await following).projected
        try:
            while True:
                window = await following
                self._on_progress(max(0, window.after), max(end, window.until))
                if window.until < end:
                    following = asyncio.ensure_future(self._read(reader, window.until))
                yield window
                if window.until >= end:
                    return
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _read(self, reader: Connection, after: int) -> _Window:
        until, projected = await read_window(reader, after, self._window_events)
        records = await select_streams_begun(reader, after=after, until=until, position=projected)
        streams = _streams(records)
        changes = {order_id: self._changes_of(stream) for order_id, stream in streams.items()}
        return _Window(after, until, projected, streams, changes)

    def _changes_of(self, records: list[RecordedEvent]) -> QueueChanges | None:
        try:
            changes = self._writer.changes_of(records)
        except EventTooNew:
            raise
        except Exception:  # noqa: BLE001 - it is raised again where it is applied, and judged there
            return None
        return None if changes.settled else changes  # an outcome without a creation

    async def _rebuild(self, connection: Connection, window: _Window) -> None:
        try:
            async with connection.transaction():
                position = await wait_for_position(connection)
                events = await self._catch_up(connection, window, position)
                parking, replaced = await self._replace(connection, window)
        except psycopg.errors.LockNotAvailable as error:
            raise await self._blocked(connection) from error
        except FaultUnclear as error:
            raise RebuildBlocked(f"the queue's tables refuse an order: {error}") from error
        except psycopg.Error as error:
            if blame_of(error) is Blame.ELSEWHERE:
                raise
            refused = f"the queue's tables refuse a change: {describe(error)}"
            raise RebuildBlocked(refused) from error
        so_far = self._rebuilt
        self._rebuilt = Rebuilt(
            position=window.until,
            events=so_far.events + events,
            replaced=so_far.replaced + replaced,
            parked_orders=so_far.parked_orders + len(parking.parked),
        )

    async def _catch_up(self, connection: Connection, window: _Window, position: int) -> int:
        """Add what came to the window's orders up to the position; how many events it has then."""
        if position > window.projected:
            records = await select_log_between(connection, after=window.projected, until=position)
            for order_id, added in _streams(records).items():
                if order_id in window.streams:
                    window.streams[order_id] += added
                    window.changes[order_id] = self._changes_of(window.streams[order_id])
        return sum(map(len, window.streams.values()))

    async def _replace(self, connection: Connection, window: _Window) -> tuple[Parking, int]:
        """Write the orders again that differ; how many did, without those that stay parked."""
        queued = await self._queued(connection, window)
        rows = await fetch(connection, _SELECT_PARKED_AMONG, (list(window.streams),))
        parked = {row[0] for row in rows}
        differing = [
            order_id
            for order_id, changes in window.changes.items()
            if changes is None
            or order_id in parked
            or not _is_queued(changes, queued.get(order_id))
        ]
        unlogged = [order_id for order_id in queued if order_id not in window.streams]
        parking = Parking(self._writer, connection)
        if differing or unlogged:
            records = [record for order_id in differing for record in window.streams[order_id]]
            parts = [each for each in map(window.changes.get, differing) if each is not None]
            kept = await _rightly_pending(connection, parts)
            await forget_orders(connection, [*differing, *unlogged], records, kept)
            records.sort(key=lambda record: record.position)
            all_known = len(parts) == len(differing)
            await parking.apply(records, QueueChanges.of_orders(parts) if all_known else None)
        still_parked = parked & parking.parked
        return parking, len(differing) + len(unlogged) - len(still_parked)

    async def _queued(self, connection: Connection, window: _Window) -> dict[UUID, _QueuedOrder]:
        """The window's orders as the queue has them, and any others that it has there."""
        parameters = {
            "order_ids": list(window.streams),
            "after": window.after,
            "until": window.until,
        }
        rows = await fetch(connection, _SELECT_ORDERS, parameters)
        positions = [row[_CREATED_POSITION] for row in rows]
        found = await fetch(connection, _SELECT_SLICES_OF, (positions,))
        slices = {row[0]: row[1:] for row in found}
        found = await fetch(connection, _SELECT_PENDING_OF, (positions,))
        pending = {row[0]: row for row in found}
        return {
            row[_ORDER_ID]: _QueuedOrder(row, slices.get(position), pending.get(position))
            for row, position in zip(rows, positions, strict=True)
        }

    async def _blocked(self, connection: Connection) -> RebuildBlocked:
        rows = await fetch(connection, _SELECT_BLOCKERS)
        named = "; ".join(str(row[0]) for row in rows) or "none was seen"
        return RebuildBlocked(
            f"other sessions hold the tables of the queue: {named}. End them (pg_terminate_backend "
            "with the pid, or ROLLBACK PREPARED) or wait until they end, and run the rebuild again"
        )


def _streams(records: Iterable[RecordedEvent]) -> Streams:
    streams: Streams = defaultdict(list)
    for record in records:
        streams[record.originator_id].append(record)
    return dict(streams)


async def _rightly_pending(connection: Connection, parts: Iterable[QueueChanges]) -> list[int]:
    """The positions of creation of those orders that must be pending and are."""
    pending = [_pending(row) for part in parts for row in part.created.values()]
    expected = {row[0]: row for row in pending if row is not None}
    rows = await fetch(connection, _SELECT_PENDING_OF, (list(expected),)) if expected else []
    return [row[0] for row in rows if row == expected[row[0]]]


def _is_queued(changes: QueueChanges, queued: _QueuedOrder | None) -> bool:
    """Whether the queue has of an order what its stream makes of an empty queue."""
    if queued is None or not changes.created:
        return queued is None and not changes.created
    (row,) = changes.created.values()
    slices = changes.slices.get(row["order_id"], ())
    columns = (
        [s.sequence_number for s in slices],
        [s.quantity for s in slices],
        [s.scheduled_at for s in slices],
    )
    return (
        queued.row == tuple(map(row.get, ORDER_COLUMNS))
        and queued.slices == (columns if slices else None)
        and queued.pending == _pending(row)
    )


def _pending(row: Row) -> tuple[Any, ...] | None:
    """The order's row among the pending ones; None if it must not be there."""
    if row["state"] != "PENDING":
        return None
    return tuple(row[column] for column in _PENDING_FROM_EVENTS)

"""Rebuild: computes every order of the queue from the log, and replaces the orders that differ.

The rebuild goes through the log in windows. It first computes the rows of the orders that begin in
a window. Then it locks the projection's position, adds the events up to that position, and compares
the rows with the queue. Orders that differ are deleted and written again, by the code of the live
projection and in the same transaction. So readers never see missing rows, partial orders or an
older state, and the live projection waits for one window at most. An order that stays pending and
is not parked keeps its claim.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgspec
import psycopg

from pulse.errors import PulseError
from pulse.eventstore import (
    BEFORE_LOG,
    EventMapper,
    EventTooNew,
    RecordedEvent,
    select_log_between,
    select_streams_begun,
)
from pulse.postgres import Connection, Database, DatabaseUnavailable, describe, fetch, load_sql
from pulse.postgres.limits import milliseconds
from pulse.projections.audit import read_window
from pulse.projections.comparison import SELECT_ORDERS, expected_pending
from pulse.projections.parking import (
    AmbiguousError,
    ErrorSource,
    Parking,
    error_source,
)
from pulse.projections.position import lock_position
from pulse.projections.queue_writer import (
    ORDER_COLUMNS,
    PENDING_COLUMNS,
    SLICE_COLUMNS,
    QueueChanges,
    QueueWriter,
    delete_orders,
    refresh_due_orders,
)
from pulse.projections.stalled_sessions import REBUILD_PURPOSE

REBUILD_LOCK: Final = 0x50554C53_45000003
"""The advisory lock that lets one rebuild run at a time."""

_WINDOW_EVENTS: Final = 2_000
"""The events of a window. Later events of its orders are read too."""

_STREAMS_BETWEEN_YIELDS: Final = 20
"""After this many streams other tasks run, so that no transaction is idle for too long."""

_SET_TIMEOUTS = load_sql(__package__, "set_rebuild_timeouts")
_TRY_REBUILD_LOCK = load_sql(__package__, "try_rebuild_lock")
_SELECT_UNFILLED_COLUMNS = load_sql(__package__, "select_unfilled_columns")
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
_ORDER_ID: Final = ORDER_COLUMNS.index("order_id")
_CREATED_POSITION: Final = ORDER_COLUMNS.index("created_position")

OnProgress = Callable[[int, int], None]
"""Called before each window and at the end: the position reached, and the projected position."""

Streams: TypeAlias = dict[UUID, list[RecordedEvent]]


class RebuildRunning(PulseError):
    """Another rebuild is running on this database."""


class RebuildBlocked(PulseError):
    """The rebuild cannot continue; the message says why. Each order is unchanged or rebuilt."""


class Rebuilt(msgspec.Struct, frozen=True):
    """The result: the queue was compared up to `position`, and `replaced` orders differed."""

    position: int
    events: int
    replaced: int
    parked_orders: int


class _QueuedOrder(msgspec.Struct, frozen=True, gc=False):
    """An order in the queue: its row, its slices, its row in pending_orders."""

    row: tuple[Any, ...]
    slices: tuple[Any, ...] | None
    pending: tuple[Any, ...] | None


class _Window(msgspec.Struct, frozen=True):
    """The streams that begin between `after` (exclusive) and `until`, up to `projected`.

    `changes` has the rows of each order computed from its stream; None if that fails.
    """

    after: int
    until: int
    projected: int
    streams: Streams
    changes: dict[UUID, QueueChanges | None]


class Rebuild:
    """A rebuild on a dedicated connection, while orders are posted and split."""

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
        """Compare every window, and replace the orders that differ.

        If it raises, each order of the queue is unchanged or rebuilt.

        Raises:
            RebuildRunning: another rebuild is running.
            RebuildBlocked: the queue has columns of newer code, its tables refuse a valid row, or
                other sessions lock them.
            DatabaseUnavailable: Postgres cannot be reached or refuses.
            EventTooNew: newer code must rebuild.
        """
        try:
            async with (
                self._locked_connection() as connection,
                self._rebuild_connection() as reader,
            ):
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
    async def _rebuild_connection(self) -> AsyncIterator[Connection]:
        """A connection with the timeouts of a rebuild.

        It has no statement timeout: a window that is not in the cache needs many random reads. It
        may be idle in a transaction for longer, see PostgresLimits.
        """
        async with await self._database.connect(REBUILD_PURPOSE) as connection:
            idle_seconds = self._database.limits.rebuild_idle_in_transaction_seconds
            await connection.execute(_SET_TIMEOUTS, (milliseconds(idle_seconds),))
            yield connection

    @asynccontextmanager
    async def _locked_connection(self) -> AsyncIterator[Connection]:
        async with self._rebuild_connection() as connection:
            ((is_free,),) = await fetch(connection, _TRY_REBUILD_LOCK, (REBUILD_LOCK,))
            if not is_free:
                raise RebuildRunning("another rebuild is running on this database: let it finish")
            rows = await fetch(connection, _SELECT_UNFILLED_COLUMNS, (_COLUMNS,))
            if unfilled := [str(row[0]) for row in rows]:
                raise RebuildBlocked(
                    f"the queue has columns that this code does not fill ({', '.join(unfilled)}): "
                    "rebuild with the newer release that has them, or drop them if none has"
                )
            yield connection

    async def _windows(self, reader: Connection) -> AsyncGenerator[_Window, None]:
        """Yield the windows up to the position projected at the start, reading one window ahead."""
        next_window = asyncio.ensure_future(self._read(reader, BEFORE_LOG))
        end = (await next_window).projected
        try:
            while True:
                window = await next_window
                self._on_progress(max(0, window.after), max(end, window.until))
                if window.until < end:
                    next_window = asyncio.ensure_future(self._read(reader, window.until))
                yield window
                if window.until >= end:
                    return
        finally:
            next_window.cancel()
            await asyncio.gather(next_window, return_exceptions=True)

    async def _read(self, reader: Connection, after: int) -> _Window:
        until, projected = await read_window(reader, after, self._window_events)
        records = await select_streams_begun(reader, after=after, until=until, position=projected)
        streams = _streams(records)
        changes: dict[UUID, QueueChanges | None] = {}
        for number, (order_id, stream) in enumerate(streams.items(), 1):
            changes[order_id] = self._changes_of(stream)
            if number % _STREAMS_BETWEEN_YIELDS == 0:
                await asyncio.sleep(0)
        return _Window(after, until, projected, streams, changes)

    def _changes_of(self, records: list[RecordedEvent]) -> QueueChanges | None:
        try:
            changes = self._writer.changes_of(records)
        except EventTooNew:
            raise
        except Exception:  # noqa: BLE001 - `Parking.apply` raises and classifies it again
            return None
        is_whole = not (changes.outcomes or changes.settled)
        return changes if is_whole else None  # None: an event without a creation before it

    async def _rebuild(self, connection: Connection, window: _Window) -> None:
        try:
            async with connection.transaction():
                position = await lock_position(connection)
                events = await self._add_later_events(connection, window, position)
                parking, replaced = await self._replace(connection, window)
        except psycopg.errors.LockNotAvailable as error:
            raise await self._blocked(connection) from error
        except AmbiguousError as error:
            raise RebuildBlocked(f"the queue's tables refuse an order: {error}") from error
        except psycopg.Error as error:
            if error_source(error) is ErrorSource.ENVIRONMENT:
                raise
            refused = f"the queue's tables refuse a change: {describe(error)}"
            raise RebuildBlocked(refused) from error
        total = self._rebuilt
        self._rebuilt = Rebuilt(
            position=window.until,
            events=total.events + events,
            replaced=total.replaced + replaced,
            parked_orders=total.parked_orders + len(parking.parked),
        )

    async def _add_later_events(
        self, connection: Connection, window: _Window, position: int
    ) -> int:
        """Add the events of the window's orders up to the position; returns the event count."""
        if position > window.projected:
            records = await select_log_between(connection, after=window.projected, until=position)
            for order_id, added in _streams(records).items():
                if order_id in window.streams:
                    window.streams[order_id] += added
                    window.changes[order_id] = self._changes_of(window.streams[order_id])
        return sum(map(len, window.streams.values()))

    async def _replace(self, connection: Connection, window: _Window) -> tuple[Parking, int]:
        """Replace the orders that differ. Returns their number, without those that stay parked."""
        queued = await self._read_queued(connection, window)
        rows = await fetch(connection, _SELECT_PARKED_AMONG, (list(window.streams),))
        parked = {row[0] for row in rows}
        differing = [
            order_id
            for order_id, changes in window.changes.items()
            if changes is None or order_id in parked or not _is_same(changes, queued.get(order_id))
        ]
        unlogged = [order_id for order_id in queued if order_id not in window.streams]
        parking = Parking(self._writer, connection)
        if differing or unlogged:
            records = [record for order_id in differing for record in window.streams[order_id]]
            parts = [each for each in map(window.changes.get, differing) if each is not None]
            kept = await _unchanged_pending(connection, parts)
            await delete_orders(connection, [*differing, *unlogged], records, kept)
            records.sort(key=lambda record: record.position)
            all_computed = len(parts) == len(differing)
            await parking.apply(records, QueueChanges.of_orders(parts) if all_computed else None)
        replaced = {*differing, *unlogged}
        kept_positions = [
            order.row[_CREATED_POSITION]
            for order_id, order in queued.items()
            if order_id not in replaced
        ]
        refreshed = await refresh_due_orders(connection, kept_positions)
        still_parked = parked & parking.parked
        return parking, len(replaced) + len(refreshed) - len(still_parked)

    async def _read_queued(
        self, connection: Connection, window: _Window
    ) -> dict[UUID, _QueuedOrder]:
        """Read the queue's rows of the window's orders, and of any other orders in the window."""
        parameters = {
            "order_ids": list(window.streams),
            "after": window.after,
            "until": window.until,
        }
        rows = await fetch(connection, SELECT_ORDERS, parameters)
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
        sessions = "; ".join(str(row[0]) for row in rows) or "none is visible now"
        return RebuildBlocked(
            f"other sessions lock the queue's tables: {sessions}. End them (pg_terminate_backend "
            "with the pid, or ROLLBACK PREPARED) or wait until they end, and run the rebuild again"
        )


def _streams(records: Iterable[RecordedEvent]) -> Streams:
    streams: Streams = defaultdict(list)
    for record in records:
        streams[record.originator_id].append(record)
    return dict(streams)


async def _unchanged_pending(connection: Connection, parts: Iterable[QueueChanges]) -> list[int]:
    """The positions of creation of the orders whose rows in pending_orders are correct."""
    pending = [expected_pending(row) for part in parts for row in part.created.values()]
    expected = {row[0]: row for row in pending if row is not None}
    rows = await fetch(connection, _SELECT_PENDING_OF, (list(expected),)) if expected else []
    return [row[0] for row in rows if row == expected[row[0]]]


def _is_same(changes: QueueChanges, queued: _QueuedOrder | None) -> bool:
    """Whether the order's rows in the queue equal those computed from its stream."""
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
        and queued.pending == expected_pending(row)
    )

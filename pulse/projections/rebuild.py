"""Rebuild: the order queue built again from the log beside the live one, and swapped in whole.

The new tables lie in a schema of their own under the same names. Rows are copied while the live
projection goes on; where an event does not fit, and at the end, the very statements of the live
projection fill them. Holding the live position's row, they are brought to exactly that position
and take the live tables' place in one transaction: no reader sees fewer rows or an older state. No
claim is touched. Unqualified names on its connection lead to Postgres' objects and its own alone.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final, LiteralString

import msgspec
import psycopg
import structlog
from psycopg import sql

from pulse.errors import PulseError
from pulse.eventstore import EventMapper, RecordedEvent, select_log
from pulse.postgres import Connection, Database, DatabaseUnavailable, describe, load_sql
from pulse.projections.parking import FaultUnclear, Parking
from pulse.projections.poison import Blame, blame_of
from pulse.projections.projector import PROJECTION_NAME
from pulse.projections.queue_changes import NewOrder, QueueChanges
from pulse.projections.queue_writer import QueueWriter

_log = structlog.get_logger(__name__)

REBUILD_LOCK: Final = 0x50554C53_45000003
"""The advisory lock that lets one rebuild run at a time."""

_BATCH_EVENTS: Final = 5_000
_POSITION_LOCK_SECONDS: Final = 1.0
_TABLE_LOCK_SECONDS: Final = 0.1
"""How long readers and the projection wait behind the swap at most, for each table."""
_AUTOVACUUM_MARGIN_SECONDS: Final = 0.5

_BEGIN_REBUILD = load_sql(__package__, "begin_rebuild")
_COMPLETE_REBUILT = load_sql(__package__, "complete_rebuilt")
_HOLD_LIVE_POSITION = load_sql(__package__, "hold_live_position")
_SELECT_DEADLOCK_TIMEOUT = load_sql(__package__, "select_deadlock_timeout")
_SELECT_LIVE_POSITION = load_sql(__package__, "select_live_position")
_SELECT_LIVE_SCHEMA = load_sql(__package__, "select_live_schema")
_SELECT_OBSTACLES = load_sql(__package__, "select_rebuild_obstacles")
_SELECT_SWAP_BLOCKERS = load_sql(__package__, "select_swap_blockers")
_SWAP_REBUILT = load_sql(__package__, "swap_rebuilt")

_COLUMNS: Final = [
    *(f"order_queue.{column}" for column in NewOrder.__struct_fields__),
    *(f"order_slices.{column}" for column in ("order_id", "sequence_number", "instrument", "side")),
    *(f"order_slices.{column}" for column in ("quantity", "scheduled_at")),
    *(f"parked_orders.{column}" for column in ("order_id", "position", "reason", "parked_at")),
]

_Write = Callable[[Connection, QueueChanges], Awaitable[None]]
OnProgress = Callable[[int, int], None]
"""Called before each batch and at the end with the position reached, and the live one."""


class RebuildRunning(PulseError):
    """Another rebuild runs on this database."""


class RebuildBlocked(PulseError):
    """Something blocks the rebuild; the message names it. The live queue is unchanged."""


class Rebuilt(msgspec.Struct, frozen=True):
    """The queue was built from `events` events and is at `position`."""

    position: int
    events: int
    parked_orders: int


class SwapLimits(msgspec.Struct, frozen=True):
    """How often the swap is tried, and how long the live projection goes on between two tries."""

    attempts: int = 40
    pause_seconds: float = 0.5


class _Batch(msgspec.Struct, frozen=True):
    """Events up to and including `end`, and what they change; None where one cannot be applied."""

    records: list[RecordedEvent]
    end: int
    changes: QueueChanges | None


class _Blocker(msgspec.Struct, frozen=True):
    """A session, or a prepared transaction, that holds tables the swap needs."""

    session: str
    application: str
    role: str
    state: str
    since: datetime | None
    is_autovacuum: bool
    tables: str

    def __str__(self) -> str:
        since = "a time that needs the role pg_read_all_stats to be seen"
        if self.since is not None:
            since = self.since.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        return (
            f"{self.session} ({self.application} of role {self.role}, {self.state}, transaction "
            f"open since {since}) holds {self.tables}"
        )


class Rebuild:
    """One rebuild on a connection of its own; orders may be posted and split meanwhile."""

    def __init__(
        self,
        database: Database,
        mapper: EventMapper,
        on_progress: OnProgress,
        *,
        batch_events: int = _BATCH_EVENTS,
        swap_limits: SwapLimits | None = None,
    ) -> None:
        self._database = database
        self._writer = QueueWriter(mapper, end_claims=False)
        self._on_progress = on_progress
        self._batch_events = batch_events
        self._swap_limits = swap_limits or SwapLimits()
        self._live = ""
        self._position = 0
        self._events = 0
        self._parked = 0

    async def run(self) -> Rebuilt:
        """Build the new tables and swap them in.

        Raises:
            RebuildRunning: another one is under way.
            RebuildBlocked: something on the live tables would be lost, a right is missing, or other
                sessions held the live tables until the last try; the live tables are unchanged.
            DatabaseUnavailable: the live tables are unchanged.
            EventTooNew: the same; newer code must rebuild.
        """
        try:
            async with self._connection() as connection:
                await self._require_no_obstacles(connection)
                await connection.execute(self._statement(_BEGIN_REBUILD))
                await self._catch_up_while_live_goes_on(connection)
                await connection.execute(self._statement(_COMPLETE_REBUILT))
                await self._catch_up_while_live_goes_on(connection)
                await self._swap(connection)
        except (psycopg.Error, FaultUnclear) as error:
            raise DatabaseUnavailable(describe(error)) from error
        return Rebuilt(self._position, self._events, self._parked)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        async with await self._database.connect("rebuild") as connection:
            cursor = await connection.execute(_SELECT_LIVE_SCHEMA)
            row = await cursor.fetchone()
            if row is None:
                raise RebuildBlocked("there is no table order_queue on the search path")
            self._live = row[0]
            await connection.execute("SET search_path = pg_catalog, pg_temp")
            await connection.execute("SET statement_timeout = 0")
            await connection.execute("SET idle_in_transaction_session_timeout = '60s'")
            cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", (REBUILD_LOCK,))
            row = await cursor.fetchone()
            if row is None or not row[0]:
                raise RebuildRunning("another rebuild is running on this database: let it finish")
            yield connection

    def _statement(
        self, text: LiteralString, **values: sql.Composable | float | list[str]
    ) -> sql.Composed:
        """The statement with the live schema's name, and these values, put in."""
        return sql.SQL(text).format(
            live=sql.Identifier(self._live),
            live_name=sql.Literal(self._live),
            projection=sql.Literal(PROJECTION_NAME),
            **values,
        )

    async def _require_no_obstacles(self, connection: Connection) -> None:
        cursor = await connection.execute(self._statement(_SELECT_OBSTACLES, columns=_COLUMNS))
        obstacles = [str(row[0]) for row in await cursor.fetchall()]
        if obstacles:
            raise RebuildBlocked(f"the rebuild was not begun: {'; '.join(obstacles)}")

    async def _catch_up_while_live_goes_on(self, connection: Connection) -> None:
        """Come to the live position. While one batch is written the next one is read."""
        live = await self._live_position(connection, _SELECT_LIVE_POSITION)
        following = asyncio.ensure_future(self._read(self._position, live))
        try:
            while self._position < live:
                self._on_progress(self._position, live)
                batch = await following
                following = asyncio.ensure_future(self._read(batch.end, live))
                async with connection.transaction():
                    await self._apply(connection, batch, self._writer.copy)
                live = await self._live_position(connection, _SELECT_LIVE_POSITION)
            self._on_progress(self._position, live)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _swap(self, connection: Connection) -> None:
        """Try to swap, each time within a short lock timeout; between tries the projection goes on.

        Raises:
            RebuildBlocked: after the last try, naming the sessions that hold the tables.
        """
        lock_seconds, blockers, logged = _TABLE_LOCK_SECONDS, list[_Blocker](), list[_Blocker]()
        for attempt in range(1, self._swap_limits.attempts + 1):
            if await self._is_swapped(connection, lock_seconds):
                return
            blockers = await self._blockers(connection, _TABLE_LOCK_SECONDS) or blockers
            if blockers != logged:
                _log.warning("rebuild.waits", attempt=attempt, blockers=list(map(str, blockers)))
                logged = blockers
            lock_seconds = _TABLE_LOCK_SECONDS
            if blockers and all(blocker.is_autovacuum for blocker in blockers):
                lock_seconds = await _autovacuum_cancel_seconds(connection)
            await asyncio.sleep(self._swap_limits.pause_seconds)
            await self._catch_up_while_live_goes_on(connection)
        named = "; ".join(map(str, blockers)) or "none was seen, run it when the load is lower"
        raise RebuildBlocked(
            "the rebuilt queue could not replace the live one, which is unchanged, because other "
            f"sessions hold its tables: {named}. End them (pg_terminate_backend with the pid, or "
            "ROLLBACK PREPARED) or wait until they end, and run the rebuild again"
        )

    async def _is_swapped(self, connection: Connection, lock_seconds: float) -> bool:
        """Whether the swap was done; False if a lock could not be had in time."""
        before = self._position, self._events, self._parked
        try:
            async with connection.transaction():
                await _set_lock_timeout(connection, _POSITION_LOCK_SECONDS)
                live = await self._live_position(connection, _HOLD_LIVE_POSITION)
                while self._position < live:
                    batch = await self._read(self._position, live)
                    await self._apply(connection, batch, self._writer.write)
                await _set_lock_timeout(connection, lock_seconds)
                await connection.execute(self._statement(_SWAP_REBUILT))
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            self._position, self._events, self._parked = before
            return False
        return True

    async def _blockers(self, connection: Connection, seconds: float) -> list[_Blocker]:
        """The sessions that have held the queue's tables for longer than that."""
        statement = self._statement(_SELECT_SWAP_BLOCKERS, seconds=seconds)
        cursor = await connection.execute(statement)
        return [_Blocker(*row) for row in await cursor.fetchall()]

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
        except Exception as error:
            if blame_of(error) is Blame.ELSEWHERE:
                raise
            changes = None
        return _Batch(records, records[-1].position if records else live, changes)

    async def _apply(self, connection: Connection, batch: _Batch, write: _Write) -> None:
        if batch.records:
            async with _search_path_to_rebuilt(connection):
                if not await self._is_written(connection, batch, write):
                    await self._apply_parking(connection, batch.records)
        self._events += len(batch.records)
        self._position = batch.end

    async def _is_written(self, connection: Connection, batch: _Batch, write: _Write) -> bool:
        """Whether the batch could be written as it was read; not where orders are parked."""
        if batch.changes is None or self._parked:
            return False
        try:
            async with connection.transaction():
                await write(connection, batch.changes)
        except Exception as error:
            if blame_of(error) is Blame.ELSEWHERE:
                raise
            return False
        return True

    async def _apply_parking(self, connection: Connection, records: list[RecordedEvent]) -> None:
        if self._parked:
            records = await self._writer.without_parked(connection, records)
        parking = Parking(self._writer, connection)
        await parking.apply(records)
        self._parked += len(parking.parked)

    async def _live_position(self, connection: Connection, statement: LiteralString) -> int:
        cursor = await connection.execute(self._statement(statement))
        row = await cursor.fetchone()
        return row[0] if row else 0


@asynccontextmanager
async def _search_path_to_rebuilt(connection: Connection) -> AsyncIterator[None]:
    """Within the transaction, unqualified names lead to the new tables and to nothing else."""
    await connection.execute("SET LOCAL search_path = pg_catalog, pulse_rebuild, pg_temp")
    yield
    await connection.execute("SET LOCAL search_path = pg_catalog, pg_temp")


async def _set_lock_timeout(connection: Connection, seconds: float) -> None:
    await connection.execute(
        "SELECT set_config('lock_timeout', %s, true)", (f"{round(seconds * 1000)}ms",)
    )


async def _autovacuum_cancel_seconds(connection: Connection) -> float:
    """Postgres cancels an autovacuum worker once a session has waited for deadlock_timeout."""
    cursor = await connection.execute(_SELECT_DEADLOCK_TIMEOUT)
    row = await cursor.fetchone()
    return (row[0] if row else 1.0) + _AUTOVACUUM_MARGIN_SECONDS

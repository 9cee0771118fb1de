"""Parking: an order with an event that cannot be applied is parked, so that it blocks no others.

Any error from applying one event alone is attributed to the event, unless the connection, the
server or the schema is known to cause it.
"""

import contextlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import Enum, auto
from typing import Final
from uuid import UUID

import msgspec
import psycopg
import structlog

from pulse.errors import PulseError
from pulse.eventstore import EventMapper, EventTooNew, RecordedEvent, select_streams
from pulse.postgres import Connection, Database, DatabaseUnavailable, describe, fetch, load_sql
from pulse.printable import printable
from pulse.projections.position import lock_position
from pulse.projections.queue_writer import QueueChanges, QueueWriter, delete_orders

_log = structlog.get_logger(__name__)

_MAX_CONTROLS: Final = 3
_MAX_REASON_CHARACTERS: Final = 500

_AMBIGUOUS_STATES: Final = ("57014", "53000", "53200", "53400")
"""A cancelled statement (also by a timeout), out of memory, a configured limit."""
_AMBIGUOUS_CLASSES: Final = ("0A", "3F", "42", "58", "P0", "XX")
"""Feature not supported, invalid schema, undefined object or missing privilege, I/O error, error
raised by a trigger, internal error."""
_ENVIRONMENT_CLASSES: Final = ("08", "25", "26", "28", "3D", "40", "53", "55", "57")
"""Connection, transaction state (read-only), prepared statements, authentication, database name,
serialization and deadlock, resources (disk full), locks, operator intervention (shutdown)."""

_CHECK_CONSTRAINTS = load_sql(__package__, "check_constraints")
_SELECT_PARKED = load_sql(__package__, "select_parked")
_SELECT_FIRST_PARKED = load_sql(__package__, "select_first_parked")


class ErrorSource(Enum):
    """The source of an error that applying events raised."""

    EVENT = auto()
    """The event can never be applied as it is."""
    AMBIGUOUS = auto()
    """Either the event exceeds a limit of the server, or the server or schema fails for all events.
    A control decides: another event, of the same type if there is one, is applied and rolled
    back."""
    ENVIRONMENT = auto()
    """Not the event: the same event may be applied later, or by newer code."""


def error_source(error: Exception) -> ErrorSource:
    """Classify an error that applying events raised."""
    if isinstance(error, psycopg.Error):
        return _source_of_database_error(error)
    if isinstance(error, (EventTooNew, DatabaseUnavailable, ConnectionError, TimeoutError)):
        return ErrorSource.ENVIRONMENT
    return ErrorSource.AMBIGUOUS if isinstance(error, (MemoryError, OSError)) else ErrorSource.EVENT


def _source_of_database_error(error: psycopg.Error) -> ErrorSource:
    state = error.sqlstate
    if state is None:  # raised by the driver: a broken connection, or a value it cannot encode
        broken = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
        return ErrorSource.ENVIRONMENT if broken else ErrorSource.EVENT
    if state in _AMBIGUOUS_STATES or state[:2] in _AMBIGUOUS_CLASSES:
        return ErrorSource.AMBIGUOUS
    return ErrorSource.ENVIRONMENT if state[:2] in _ENVIRONMENT_CLASSES else ErrorSource.EVENT


def parking_reason(error: Exception) -> str:
    """The reason for parking an order: one line of ASCII, which any database can store."""
    if isinstance(error, (PulseError, psycopg.Error)):
        text = describe(error)
    else:
        text = f"{type(error).__name__}: {error}"
    text = printable(text.encode("ascii", "backslashreplace").decode("ascii"))
    return text[:_MAX_REASON_CHARACTERS]


class AmbiguousError(Exception):
    """Applying `record` alone raised `error`, whose source is AMBIGUOUS."""

    def __init__(self, record: RecordedEvent, error: Exception) -> None:
        self.record = record
        self.error = error
        super().__init__(
            f"the event at position {record.position} of order {record.originator_id} cannot be "
            f"applied now: {parking_reason(error)}"
        )


class _RollBack(Exception):
    """Rolls a savepoint back."""


class Parking:
    """Applies records in the caller's transaction, and parks orders whose events cannot be applied.

    Records are applied in a savepoint. If that fails, they are divided and each part is tried in
    its own savepoint, until a single event has failed.
    """

    def __init__(self, writer: QueueWriter, connection: Connection) -> None:
        self.foreign = 0
        self.parked: set[UUID] = set()
        self._writer = writer
        self._connection = connection

    async def apply(
        self, records: Sequence[RecordedEvent], changes: QueueChanges | None = None
    ) -> None:
        """Apply records in order, except those of orders parked by this object.

        `changes` are the changes of all the records, if they are already computed.

        Raises:
            AmbiguousError: an event failed, and the cause is unknown; all before it are applied.
            Exception: the source is ENVIRONMENT; roll the transaction back.
        """
        wanted = [record for record in records if record.originator_id not in self.parked]
        if not wanted:
            return
        result = await self._attempt(wanted, changes, keep=True)
        if isinstance(result, Exception):
            await self._divide(wanted, result)
        else:
            self.foreign += result

    async def park(self, record: RecordedEvent, error: Exception) -> None:
        """Park the record's order because of this error."""
        reason = parking_reason(error)
        _log.error(
            "projection.order_parked",
            order_id=str(record.originator_id),
            position=record.position,
            reason=reason,
        )
        await self._writer.park(self._connection, record, reason)
        self.parked.add(record.originator_id)

    async def any_applies(self, controls: Iterable[RecordedEvent]) -> bool:
        """Whether any of the first three of these events can be applied alone; all are undone."""
        for record, _ in zip(controls, range(_MAX_CONTROLS), strict=False):
            result = await self._attempt([record], None, keep=False)
            if not isinstance(result, Exception):
                return True
            if error_source(result) is ErrorSource.ENVIRONMENT and not isinstance(
                result, EventTooNew
            ):
                raise result
        return False

    async def _attempt(
        self, records: Sequence[RecordedEvent], changes: QueueChanges | None, *, keep: bool
    ) -> int | Exception:
        """The number of foreign records; or the error, and then the records are not applied.

        An error of the savepoint itself is raised.
        """
        result: int | Exception
        with contextlib.suppress(_RollBack):
            async with self._connection.transaction():
                try:
                    result = await self._writer.apply(self._connection, records, changes)
                    await self._connection.execute(_CHECK_CONSTRAINTS)
                except Exception as error:  # noqa: BLE001 - the caller classifies it
                    result = error
                if isinstance(result, Exception) or not keep:
                    raise _RollBack
        return result

    async def _divide(self, records: list[RecordedEvent], error: Exception) -> None:
        source = error_source(error)
        if source is ErrorSource.ENVIRONMENT:
            raise error
        if len(records) == 1:
            if source is ErrorSource.AMBIGUOUS:
                raise AmbiguousError(records[0], error) from error
            await self.park(records[0], error)
            return
        middle = len(records) // 2
        halves = records[:middle], records[middle:]
        # if the cause is a timeout, one by one costs one timeout, halving costs one per division
        for part in ([r] for r in records) if source is ErrorSource.AMBIGUOUS else halves:
            await self.apply(part)


class ParkedOrder(msgspec.Struct, frozen=True):
    """A parked order: the position of the event that failed, why, and when it was parked."""

    order_id: UUID
    position: int
    reason: str
    parked_at: datetime


class ParkedRow(msgspec.Struct, frozen=True):
    """A parked order; its key and instrument are None if the order is not in the queue."""

    order_id: UUID
    position: int
    reason: str
    parked_at: datetime
    order_unique_key: str | None
    instrument: str | None


async def read_first_parked(database: Database, limit: int) -> list[ParkedRow]:
    """Up to `limit` parked orders, the longest parked first.

    The cost grows with the number of parked orders, since they have no index by time.

    Raises:
        DatabaseUnavailable: they cannot be read.
    """
    rows = await database.read(
        lambda connection: fetch(connection, _SELECT_FIRST_PARKED, {"rows": limit})
    )
    return [ParkedRow(*row) for row in rows]


async def read_parked(connection: Connection) -> list[ParkedOrder]:
    """All parked orders, the longest parked first."""
    return [ParkedOrder(*row) for row in await fetch(connection, _SELECT_PARKED)]


class ParkedOrders:
    """Lists and retries parked orders."""

    def __init__(self, database: Database, mapper: EventMapper) -> None:
        self._database = database
        self._writer = QueueWriter(mapper)

    async def all(self) -> list[ParkedOrder]:
        """All parked orders, the longest parked first."""
        return await self._database.read(read_parked)

    async def retry(self, order_id: UUID) -> str | None:
        """Project an order again from its stream. Returns None, or why it stays unchanged.

        Raises:
            DatabaseUnavailable: nothing was changed, unless the connection was lost at the commit.
            EventTooNew: nothing was changed; newer code must project it.
        """
        async with self._database.connection() as connection:
            try:
                async with connection.transaction():
                    position = await lock_position(connection)
                    records = await select_streams(connection, [order_id], position=position)
                    await delete_orders(connection, [order_id], records)
                    await self._writer.apply(connection, records)
            except Exception as error:
                if error_source(error) is not ErrorSource.ENVIRONMENT:
                    return parking_reason(error)
                if isinstance(error, psycopg.Error):
                    raise DatabaseUnavailable(describe(error)) from error
                raise
        return None

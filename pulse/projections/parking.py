"""Parking: an order whose event cannot be applied is set aside and stops no other.

Poison is not a list of types: whatever applying one event alone raises is that event's fault,
unless the connection, the server or the schema is known to be at fault.
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
from pulse.projections.position import wait_for_position
from pulse.projections.queue_writer import QueueChanges, QueueWriter

_log = structlog.get_logger(__name__)

_MAX_CONTROLS: Final = 3
_MAX_REASON_CHARACTERS: Final = 500

_UNCLEAR_STATES: Final = ("57014", "53000", "53200", "53400")
"""A cancelled statement (timeouts included), no memory, a limit of the configuration."""
_UNCLEAR_CLASSES: Final = ("0A", "3F", "42", "58", "P0", "XX")
"""Unsupported, no such schema, no such object or no right to it, input/output, raised by a trigger
of others, internal error."""
_ELSEWHERE_CLASSES: Final = ("08", "25", "26", "28", "3D", "40", "53", "55", "57")
"""The connection; the transaction's state (read-only); the session; authentication; the database;
serialization and deadlock; resources (disk full); locks; an operator's intervention (shutdown)."""

_CHECK_CONSTRAINTS = load_sql(__package__, "check_constraints")
_SELECT_PARKED = load_sql(__package__, "select_parked")
_FORGET_ORDERS = load_sql(__package__, "forget_orders")


class Blame(Enum):
    """Whose fault an error is that applying events raised."""

    EVENT = auto()
    """The event can never be applied as it is."""
    UNCLEAR = auto()
    """The event exceeds a limit of the server, or the server or schema is at fault for every event.
    Only a control shows which: whether another event, of the same type if any, can be applied."""
    ELSEWHERE = auto()
    """Not the event's: the same event may be applied later, or by newer code."""


def blame_of(error: Exception) -> Blame:
    """Whose fault an error is that was raised by applying events."""
    if isinstance(error, psycopg.Error):
        return _blame_of_database(error)
    if isinstance(error, (EventTooNew, DatabaseUnavailable, ConnectionError, TimeoutError)):
        return Blame.ELSEWHERE
    return Blame.UNCLEAR if isinstance(error, (MemoryError, OSError)) else Blame.EVENT


def _blame_of_database(error: psycopg.Error) -> Blame:
    state = error.sqlstate
    if state is None:  # raised by the client: of the connection, or of a value it cannot encode
        broken = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
        return Blame.ELSEWHERE if broken else Blame.EVENT
    if state in _UNCLEAR_STATES or state[:2] in _UNCLEAR_CLASSES:
        return Blame.UNCLEAR
    return Blame.ELSEWHERE if state[:2] in _ELSEWHERE_CLASSES else Blame.EVENT


def reason_of(error: Exception) -> str:
    """Why an order is parked: one line of ASCII, which any database can store."""
    if isinstance(error, (PulseError, psycopg.Error)):
        text = describe(error)
    else:
        text = f"{type(error).__name__}: {error}"
    text = printable(text.encode("ascii", "backslashreplace").decode("ascii"))
    return text[:_MAX_REASON_CHARACTERS]


class FaultUnclear(Exception):
    """`record`, tried alone, raised `error`, which other events may raise as well."""

    def __init__(self, record: RecordedEvent, error: Exception) -> None:
        self.record = record
        self.error = error
        super().__init__(
            f"the event at position {record.position} of order {record.originator_id} cannot be "
            f"applied now: {reason_of(error)}"
        )


class _Undone(Exception):
    """Rolls a savepoint back."""


class Parking:
    """Applies records on a transaction of the caller's, each part of them in a savepoint.

    A part that fails is divided until one event alone has failed; then its order is parked.
    """

    def __init__(self, writer: QueueWriter, connection: Connection) -> None:
        self.foreign = 0
        self.parked: set[UUID] = set()
        self._writer = writer
        self._connection = connection

    async def apply(
        self, records: Sequence[RecordedEvent], changes: QueueChanges | None = None
    ) -> None:
        """Apply records in their order, but for those of orders parked here.

        `changes` are what the records change, where that is known already.

        Raises:
            FaultUnclear: this one event may be at fault or not; all before it are applied.
            Exception: what is not the event's fault (`Blame.ELSEWHERE`); roll back.
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
        """Set the record's order aside because of this error."""
        reason = reason_of(error)
        _log.error(
            "projection.order_parked",
            order_id=str(record.originator_id),
            position=record.position,
            reason=reason,
        )
        await self._writer.park(self._connection, record, reason)
        self.parked.add(record.originator_id)

    async def any_applies(self, controls: Iterable[RecordedEvent]) -> bool:
        """Whether any of the first few of these events can be applied alone; none stays applied."""
        for record, _ in zip(controls, range(_MAX_CONTROLS), strict=False):
            result = await self._attempt([record], None, keep=False)
            if not isinstance(result, Exception):
                return True
            if blame_of(result) is Blame.ELSEWHERE and not isinstance(result, EventTooNew):
                raise result
        return False

    async def _attempt(
        self, records: Sequence[RecordedEvent], changes: QueueChanges | None, *, keep: bool
    ) -> int | Exception:
        """How many were foreign, or what applying them raised: then nothing of them is kept.

        An error of the savepoint itself is no event's and is raised.
        """
        result: int | Exception
        with contextlib.suppress(_Undone):
            async with self._connection.transaction():
                try:
                    result = await self._writer.apply(self._connection, records, changes)
                    await self._connection.execute(_CHECK_CONSTRAINTS)
                except Exception as error:  # noqa: BLE001 - it is judged by whose fault it is
                    result = error
                if isinstance(result, Exception) or not keep:
                    raise _Undone
        return result

    async def _divide(self, records: list[RecordedEvent], error: Exception) -> None:
        blame = blame_of(error)
        if blame is Blame.ELSEWHERE:
            raise error
        if len(records) == 1:
            if blame is Blame.UNCLEAR:
                raise FaultUnclear(records[0], error) from error
            await self.park(records[0], error)
            return
        middle = len(records) // 2
        halves = records[:middle], records[middle:]
        # a timeout takes long: one by one it is met once, by halves once for each division
        for part in ([r] for r in records) if blame is Blame.UNCLEAR else halves:
            await self.apply(part)


async def forget_orders(
    connection: Connection,
    order_ids: Sequence[UUID],
    records: Iterable[RecordedEvent],
    kept_pending: Sequence[int] = (),
) -> None:
    """Take orders out of the queue, to be written again from these records, which are theirs.

    `kept_pending` are the positions of creation of those that stay pending: their claims are kept.
    """
    positions = [record.position for record in records if record.originator_version == 1]
    parameters = {
        "order_ids": list(order_ids),
        "positions": positions,
        "kept_pending": list(kept_pending),
    }
    await connection.execute(_FORGET_ORDERS, parameters, prepare=True)


class ParkedOrder(msgspec.Struct, frozen=True):
    """An order set aside: at which event (its place in the log), why, and when."""

    order_id: UUID
    position: int
    reason: str
    parked_at: datetime


class ParkedOrders:
    """The orders set aside, and their way back."""

    def __init__(self, database: Database, mapper: EventMapper) -> None:
        self._database = database
        self._writer = QueueWriter(mapper)

    async def all(self) -> list[ParkedOrder]:
        """Those set aside now, the longest first."""
        rows = await self._database.read(lambda connection: fetch(connection, _SELECT_PARKED))
        return [ParkedOrder(*row) for row in rows]

    async def retry(self, order_id: UUID) -> str | None:
        """Build one order again from its stream: None, or why it stays as it was.

        Raises:
            DatabaseUnavailable: nothing was changed.
            EventTooNew: nothing was changed; newer code must do it.
        """
        async with self._database.connection() as connection:
            try:
                async with connection.transaction():
                    position = await wait_for_position(connection)
                    records = await select_streams(connection, [order_id], position=position)
                    await forget_orders(connection, [order_id], records)
                    await self._writer.apply(connection, records)
            except Exception as error:
                if blame_of(error) is not Blame.ELSEWHERE:
                    return reason_of(error)
                if isinstance(error, psycopg.Error):
                    raise DatabaseUnavailable(describe(error)) from error
                raise
        return None

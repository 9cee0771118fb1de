"""Writes a batch of the log into the order queue's tables, on a transaction of the caller's."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, LiteralString
from uuid import UUID

import msgspec

from pulse.domain import HistoryBroken, Slice
from pulse.eventstore import EventMapper, EventTooNew, RecordedEvent
from pulse.postgres import Connection, load_sql
from pulse.projections.queue_changes import QueueChanges, columns_of

_INSERT_ORDERS = load_sql(__package__, "insert_orders")
_SETTLE_ORDERS = load_sql(__package__, "settle_orders")
_INSERT_SLICES = load_sql(__package__, "insert_slices")
_COPY_ORDERS = load_sql(__package__, "copy_orders")
_COPY_SLICES = load_sql(__package__, "copy_slices")
_DELETE_SETTLED_CLAIMS = load_sql(__package__, "delete_settled_claims")
_SELECT_PARKED_AMONG = load_sql(__package__, "select_parked_among")
_PARK_ORDER = load_sql(__package__, "park_order")

_ORDER_TYPES: Final = (
    *("uuid", "text", "text", "text", "text", "text", "int8", "int4", "int4", "bool", "int4"),
    *("text", "text", "text", "int8", "int8", "int8", "timestamptz", "timestamptz", "timestamptz"),
)
_SLICE_TYPES: Final = ("uuid", "int4", "text", "text", "int8", "timestamptz")
"""Of the columns as they are copied; binary COPY converts nothing."""
_INT4: Final = range(-(2**31), 2**31)


class QueueWriter:
    """Applies records to the tables the connection's search path leads to.

    `end_claims` is for the live tables; a rebuild touches no claim.
    """

    def __init__(self, mapper: EventMapper, *, end_claims: bool) -> None:
        self._mapper = mapper
        self._end_claims = end_claims

    async def apply(self, connection: Connection, records: Sequence[RecordedEvent]) -> int:
        """Apply records in their order; returns how many were foreign.

        Raises:
            EventTooNew: newer code must apply them.
            Exception: anything; `blame_of` says whose fault it is. Roll the transaction back.
        """
        changes = self.changes_of(records)
        await self.write(connection, changes)
        return changes.foreign

    def changes_of(self, records: Sequence[RecordedEvent]) -> QueueChanges:
        """What records change in their order; nothing is written. Raises as `apply`."""
        changes = QueueChanges()
        for record in records:
            if self._mapper.owns(record.topic):
                changes.apply(record.position, self._mapper.event_of(record))
            else:
                changes.foreign += 1
        return changes

    def first_newer(
        self, records: Iterable[RecordedEvent]
    ) -> tuple[RecordedEvent, EventTooNew] | None:
        """The first record that only newer code can read, and why; None if there is none."""
        for record in records:
            try:
                self.changes_of([record])
            except EventTooNew as error:
                return record, error
            except Exception:  # noqa: BLE001, S112 - it is found again when it is applied
                continue
        return None

    async def without_parked(
        self, connection: Connection, records: Sequence[RecordedEvent]
    ) -> list[RecordedEvent]:
        """The records of orders that are not set aside."""
        order_ids = [record.originator_id for record in records]
        cursor = await connection.execute(_SELECT_PARKED_AMONG, (order_ids,), prepare=True)
        parked: set[UUID] = {row[0] for row in await cursor.fetchall()}
        return [record for record in records if record.originator_id not in parked]

    async def park(self, connection: Connection, record: RecordedEvent, reason: str) -> None:
        """Set the record's order aside."""
        parameters = (record.originator_id, record.position, reason)
        await connection.execute(_PARK_ORDER, parameters)

    async def write(self, connection: Connection, changes: QueueChanges) -> None:
        """Write changes, in a transaction of the caller's. Raises as `apply`."""
        settled = None
        async with connection.pipeline():
            if changes.created:
                await _execute(connection, _INSERT_ORDERS, columns_of(changes.created.values()))
            if changes.settled:
                outcomes = columns_of(changes.settled.values())
                settled = await _execute(connection, _SETTLE_ORDERS, outcomes)
            if changes.scheduled:
                await _execute(connection, _INSERT_SLICES, changes.slice_columns())
            if changes.ended and self._end_claims:
                await _execute(connection, _DELETE_SETTLED_CLAIMS, (changes.ended,))
        if settled is not None:
            _require_all_settled(changes, settled.rowcount)

    async def copy(self, connection: Connection, changes: QueueChanges) -> None:
        """The same rows by COPY, at half of what they cost Postgres otherwise. Ends no claims.

        For tables that no other session waits for: while Postgres waits for the next piece of a
        COPY it heeds neither a cancel nor a timeout. A client that freezes there holds its locks
        until another process ends its session (decision 8), to which a slow client looks the same.
        Raises as `apply`.
        """
        created = changes.created.values()
        terms = {order.order_id: (order.instrument, order.side) for order in created}
        orders = map(msgspec.structs.astuple, created)
        await _copy(connection, _COPY_ORDERS, _ORDER_TYPES, orders)
        if changes.settled:
            outcomes = columns_of(changes.settled.values())
            cursor = await _execute(connection, _SETTLE_ORDERS, outcomes)
            _require_all_settled(changes, cursor.rowcount)
            terms |= {row[0]: (row[1], row[2]) for row in await cursor.fetchall()}
        slices = _slice_rows(changes.scheduled, terms)
        await _copy(connection, _COPY_SLICES, _SLICE_TYPES, slices)


def _require_all_settled(changes: QueueChanges, settled: int) -> None:
    if settled != len(changes.settled):
        missing = len(changes.settled) - settled
        raise HistoryBroken(f"{missing} outcomes are of orders that were not pending")


def _slice_rows(
    scheduled: Mapping[UUID, Sequence[Slice]], terms: Mapping[UUID, tuple[str, str]]
) -> Iterator[tuple[Any, ...]]:
    for order_id, slices in scheduled.items():
        instrument, side = terms[order_id]
        for s in slices:
            yield order_id, s.sequence_number, instrument, side, s.quantity, s.scheduled_at


async def _copy(
    connection: Connection,
    statement: LiteralString,
    types: Sequence[str],
    rows: Iterable[tuple[Any, ...]],
) -> None:
    narrow = [column for column, its_type in enumerate(types) if its_type == "int4"]
    async with connection.cursor().copy(statement) as copy:
        copy.set_types(types)
        for row in rows:
            for column in narrow:
                _require_int4(row[column])
            await copy.write_row(row)


def _require_int4(number: int) -> None:
    """Psycopg would cut it down to 32 bits without an error (seen with 3.3.9)."""
    if number not in _INT4:
        raise OverflowError(f"{number} is no int4")


async def _execute(connection: Connection, statement: LiteralString, parameters: Any) -> Any:  # noqa: ANN401
    return await connection.execute(statement, parameters, prepare=True)

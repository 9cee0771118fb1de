"""Writes a batch of the log into the order queue's tables, on a transaction of the caller's."""

import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Final, Self
from uuid import UUID

import msgspec
from psycopg.sql import SQL, Identifier

from pulse.domain import (
    Event,
    HistoryBroken,
    OrderCreated,
    OrderSpec,
    Slice,
    SlicesScheduled,
    SplitConfig,
    SplittingFailed,
    TimedOut,
    outcome_of,
)
from pulse.eventstore import EventMapper, EventTooNew, RecordedEvent
from pulse.postgres import Connection, fetch, load_sql

Row = dict[str, Any]

_SPEC_COLUMNS: Final = (
    *(field for field in OrderSpec.__struct_fields__ if field != "split_config"),
    *SplitConfig.__struct_fields__,
)
ORDER_COLUMNS: Final = (
    *_SPEC_COLUMNS,
    *("order_id", "scope", "placed_by", "splitter_version"),
    *("state", "failure_reason", "failure_message", "version", "position", "created_position"),
    *("created_at", "updated_at", "split_completed_at"),
)
"""The columns of `order_queue` that this code fills: one a field of the request, and what came of
it."""

PENDING_COLUMNS: Final = (
    *("created_position", "order_id", "created_at", "splitter_version", "instrument"),
    *("claimed_at", "first_claimed_at", "claimed_by"),
)

SLICE_COLUMNS: Final = ("created_position", "scheduled_at", "quantity", "sequence_number")

_COPY_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_ROW: Final = struct.Struct("!hiqiqiqii")
_COPY_END: Final = b"\xff\xff"
_COPY_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

_spec_values = attrgetter(*_SPEC_COLUMNS)

INSERT_ORDERS: Final = SQL(load_sql(__package__, "insert_orders")).format(
    columns=SQL(", ").join(map(Identifier, ORDER_COLUMNS))
)
_SETTLE_ORDERS = load_sql(__package__, "settle_orders")
_COPY_SLICES = load_sql(__package__, "copy_slices")
_SELECT_PARKED_AMONG = load_sql(__package__, "select_parked_among")
_PARK_ORDER = load_sql(__package__, "park_order")


class QueueChanges:
    """The rows a batch adds and changes; an order created and settled in it is written once.

    From events alone, in the log's order. `foreign` counts the events that were not Pulse's.
    """

    def __init__(self) -> None:
        self.created: dict[UUID, Row] = {}
        self.settled: dict[UUID, Row] = {}
        self.slices: dict[UUID, tuple[Slice, ...]] = {}
        self.foreign = 0

    @classmethod
    def of_orders(cls, parts: Iterable[Self]) -> Self:
        """The changes of several orders, each computed alone and from its creation on."""
        changes = cls()
        for part in parts:
            changes.created |= part.created
            changes.slices |= part.slices
            changes.foreign += part.foreign
        return changes

    def apply(self, position: int, event: Event) -> None:
        """Take in the next event of the log.

        Raises:
            HistoryBroken: a second creation or a second outcome of one order.
        """
        if isinstance(event, OrderCreated):
            self._create(position, event)
        else:
            self._settle(position, event)

    def _create(self, position: int, event: OrderCreated) -> None:
        if event.originator_id in self.created:
            raise HistoryBroken(f"order {event.originator_id} is created a second time")
        if event.originator_version != 1:
            raise HistoryBroken(f"order {event.originator_id} is created at a version above 1")
        created_at = _instant(event.timestamp)
        self.created[event.originator_id] = dict(
            zip(_SPEC_COLUMNS, _spec_values(event), strict=True)
        ) | {
            "order_id": event.originator_id,
            "scope": event.key_scope,
            "placed_by": event.placed_by,
            "splitter_version": event.splitter_version,
            "state": "PENDING",
            "version": event.originator_version,
            "position": position,
            "created_position": position,
            "created_at": created_at,
            "updated_at": created_at,
        }

    def _settle(self, position: int, event: SlicesScheduled | SplittingFailed | TimedOut) -> None:
        order_id = event.originator_id
        row = self.created.get(order_id)
        if order_id in self.settled or (row is not None and row["state"] != "PENDING"):
            raise HistoryBroken(f"order {order_id} has a second outcome")
        outcome = outcome_of(event)
        for s in outcome.slices:
            _instant(s.scheduled_at)
        if outcome.slices:
            self.slices[order_id] = outcome.slices
        changed = {
            "order_id": order_id,
            "state": outcome.state,
            "failure_reason": outcome.failure_reason,
            "failure_message": outcome.failure_message,
            "version": event.originator_version,
            "position": position,
            "updated_at": _instant(event.timestamp),
            "split_completed_at": event.timestamp if outcome.state == "COMPLETED" else None,
        }
        if row is None:
            self.settled[order_id] = changed
        else:
            row |= changed


class QueueWriter:
    """Applies records to the tables the connection's search path leads to."""

    def __init__(self, mapper: EventMapper) -> None:
        self._mapper = mapper

    async def apply(
        self,
        connection: Connection,
        records: Sequence[RecordedEvent],
        changes: QueueChanges | None = None,
    ) -> int:
        """Apply records in their order; returns how many were foreign.

        `changes` are what the records change, where that is known already.

        Raises:
            EventTooNew: newer code must apply them.
            Exception: anything; `blame_of` says whose fault it is. Roll the transaction back.
        """
        changes = changes or self.changes_of(records)
        positions = {order_id: row["created_position"] for order_id, row in changes.created.items()}
        if changes.created:
            rows = _json(changes.created.values())
            await connection.execute(INSERT_ORDERS, (rows,), prepare=False)
        if changes.settled:
            rows = _json(changes.settled.values())
            settled = await fetch(connection, _SETTLE_ORDERS, (rows,), prepare=False)
            if missing := len(changes.settled) - len(settled):
                raise HistoryBroken(f"{missing} outcomes are of orders that were not pending")
            positions.update(settled)
        if changes.slices:
            slices = [(positions[order_id], own) for order_id, own in changes.slices.items()]
            async with connection.cursor().copy(_COPY_SLICES) as copy:
                await copy.write(_binary(slices))
        return changes.foreign

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
        rows = await fetch(connection, _SELECT_PARKED_AMONG, (order_ids,))
        parked = {row[0] for row in rows}
        return [record for record in records if record.originator_id not in parked]

    async def park(self, connection: Connection, record: RecordedEvent, reason: str) -> None:
        """Set the record's order aside."""
        parameters = (record.originator_id, record.position, reason)
        await connection.execute(_PARK_ORDER, parameters)

    def changes_of(self, records: Iterable[RecordedEvent]) -> QueueChanges:
        """What these records change; raises as `apply`, but for what only the tables refuse."""
        changes = QueueChanges()
        for record in records:
            if self._mapper.owns(record.topic):
                changes.apply(record.position, self._mapper.event_of(record))
            else:
                changes.foreign += 1
        return changes


def _binary(slices: Iterable[tuple[int, Iterable[Slice]]]) -> bytes:
    """Slices by their orders' positions, as rows of SLICE_COLUMNS, as binary COPY reads them.

    Source: the chapter on COPY in the manual of Postgres. A time is microseconds since 2000.

    Raises:
        struct.error: a number does not fit its column.
    """
    rows = [
        _COPY_ROW.pack(
            *(4, 8, position),
            *(8, (s.scheduled_at - _COPY_EPOCH) // _MICROSECOND),
            *(8, s.quantity, 4, s.sequence_number),
        )
        for position, own in slices
        for s in own
    ]
    return b"".join((_COPY_HEADER, *rows, _COPY_END))


def _json(rows: Iterable[Row]) -> str:
    return msgspec.json.encode(list(rows)).decode()


def _instant(time: datetime) -> datetime:
    """The time, if a reader can be given it: Postgres stores times that Python cannot hold.

    Raises:
        HistoryBroken: it has no offset.
        OverflowError: in UTC it lies outside the years 1 to 9999.
    """
    if time.tzinfo is not UTC:  # as those that Pulse writes are read
        if time.tzinfo is None:
            raise HistoryBroken(f"{time} has no offset from UTC")
        time.astimezone(UTC)
    return time

"""Writes a batch of the log to the order queue's tables, in the caller's transaction."""

import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Final, Self
from uuid import UUID

import msgspec
from psycopg.sql import SQL, Identifier

from pulse.domain import (
    CATCH_UP_SECONDS,
    HALTS_STREAM_ID,
    MIN_DISTANCE_SECONDS,
    Event,
    HistoryBroken,
    OrderCancelled,
    OrderCreated,
    OrderSpec,
    ReleasesHalted,
    ReleasesResumed,
    Slice,
    SlicesExpired,
    SlicesReleased,
    SlicesScheduled,
    SliceState,
    SplitConfig,
    SplittingFailed,
    TimedOut,
    outcome_of,
    require_possible_sessions,
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
    *("window_starts_at", "window_ends_at"),
    *("order_id", "scope", "placed_by", "splitter_version"),
    *("state", "failure_reason", "failure_message", "version", "position", "created_position"),
    *("created_at", "updated_at", "split_completed_at", "trace_id", "release", "settled"),
    *("released_quantity", "cancelled_quantity", "expired_quantity"),
)
"""The columns of `order_queue` that this code writes: the request's fields, then the state."""

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
_DUE_AT: Final = SQL(load_sql(__package__, "due_at"))
SETTLE_SLICES: Final = SQL(load_sql(__package__, "settle_slices")).format(due_at=_DUE_AT)
REFRESH_DUE_ORDERS: Final = SQL(load_sql(__package__, "refresh_due_orders")).format(due_at=_DUE_AT)
_APPLY_OUTCOMES = load_sql(__package__, "apply_outcomes")
_COPY_SLICES = load_sql(__package__, "copy_slices")
_SELECT_PARKED_AMONG = load_sql(__package__, "select_parked_among")
_PARK_ORDER = load_sql(__package__, "park_order")
_DELETE_ORDERS = load_sql(__package__, "delete_orders")


SETTLED_LETTERS: Final[dict[SliceState, str]] = {
    "RELEASED": "R",
    "CANCELLED": "C",
    "EXPIRED": "E",
}
"""The letters in `order_queue.settled`. The SQL function slice_state has the same."""

_DUE_PARAMETERS: Final[Row] = {
    "distance_seconds": MIN_DISTANCE_SECONDS,
    "catch_up_seconds": CATCH_UP_SECONDS,
}

_QUANTITY_COLUMNS: Final = {state: f"{state.lower()}_quantity" for state in SETTLED_LETTERS}

_NOTHING_SETTLED: Final[Row] = {
    "settled": "",
    "released_quantity": 0,
    "cancelled_quantity": 0,
    "expired_quantity": 0,
}


class QueueChanges:
    """The rows that a batch of events inserts (`created`) and updates (`outcomes`, `settled`).

    An order whose outcome is in the same batch is written once, as created. `settled` has the new
    slice states of orders that an earlier batch split. `foreign` counts the events that are not
    Pulse's.
    """

    def __init__(self) -> None:
        self.created: dict[UUID, Row] = {}
        self.outcomes: dict[UUID, Row] = {}
        self.settled: dict[UUID, Row] = {}
        self.slices: dict[UUID, tuple[Slice, ...]] = {}
        self.foreign = 0

    @classmethod
    def of_orders(cls, parts: Iterable[Self]) -> Self:
        """Merge the changes of several orders, each computed from its whole stream."""
        changes = cls()
        for part in parts:
            changes.created |= part.created
            changes.slices |= part.slices
            changes.foreign += part.foreign
        return changes

    def apply(self, position: int, event: Event) -> None:
        """Add the next event of the log.

        Raises:
            HistoryBroken: a second creation or a second outcome of one order, an event that does
                not settle the next slices, or an event of a halt in an order's stream.
        """
        match event:
            case OrderCreated():
                self._create(position, event)
            case SlicesReleased():
                numbers = tuple([s.sequence_number for s in event.slices])
                quantity = sum([s.quantity for s in event.slices])
                self._settle(position, event, numbers, quantity, "RELEASED")
            case SlicesExpired():
                numbers, quantity = event.sequence_numbers, event.quantity
                self._settle(position, event, numbers, quantity, "EXPIRED")
            case OrderCancelled() if event.sequence_numbers:
                numbers, quantity = event.sequence_numbers, event.quantity
                self._settle(position, event, numbers, quantity, "CANCELLED")
            case ReleasesHalted() | ReleasesResumed():
                if event.originator_id != HALTS_STREAM_ID:
                    raise HistoryBroken(f"an event of a halt is in stream {event.originator_id}")
            case _:
                self._add_outcome(position, event)

    def _create(self, position: int, event: OrderCreated) -> None:
        if event.originator_id in self.created:
            raise HistoryBroken(f"order {event.originator_id} is created a second time")
        if event.originator_version != 1:
            raise HistoryBroken(f"order {event.originator_id} is created at a version above 1")
        created_at = _checked_time(event.timestamp)
        row = self.created[event.originator_id] = dict(
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
            "trace_id": event.trace.trace_id,
            "release": event.release,
            **_NOTHING_SETTLED,
        }
        if event.start_at is not None or event.sessions:  # else the window starts at the creation
            row |= _window_columns(event)

    def _add_outcome(
        self, position: int, event: SlicesScheduled | SplittingFailed | TimedOut | OrderCancelled
    ) -> None:
        order_id = event.originator_id
        row = self.created.get(order_id)
        if order_id in self.outcomes or (row is not None and row["state"] != "PENDING"):
            raise HistoryBroken(f"order {order_id} has a second outcome")
        outcome = outcome_of(event)
        for s in outcome.slices:
            _checked_time(s.scheduled_at)
        if outcome.slices:
            self.slices[order_id] = outcome.slices
        changed = {
            "order_id": order_id,
            "state": outcome.state,
            "failure_reason": outcome.failure_reason,
            "failure_message": outcome.failure_message,
            "version": event.originator_version,
            "position": position,
            "updated_at": _checked_time(event.timestamp),
            "split_completed_at": event.timestamp if outcome.state == "COMPLETED" else None,
        }
        if row is None:
            self.outcomes[order_id] = changed | _NOTHING_SETTLED
            return
        row |= changed
        if outcome.state == "FAILED":
            row["expired_quantity"] = row["total_quantity"]
        elif outcome.state == "CANCELLED":
            row["cancelled_quantity"] = row["total_quantity"]

    def _settle(
        self,
        position: int,
        event: SlicesReleased | SlicesExpired | OrderCancelled,
        numbers: tuple[int, ...],
        quantity: int,
        state: SliceState,
    ) -> None:
        order_id, after_version = event.originator_id, event.originator_version - 1
        if not numbers:
            raise HistoryBroken(f"an event of order {order_id} settles no slice")
        row = (
            self.created.get(order_id) or self.outcomes.get(order_id) or self.settled.get(order_id)
        )
        if row is None:
            row = self.settled[order_id] = {
                "order_id": order_id,
                "state": "COMPLETED",
                "after_version": after_version,
                "after_slice": numbers[0] - 1,
                "version": after_version,
                **_NOTHING_SETTLED,
            }
        first = row.get("after_slice", 0) + len(row["settled"]) + 1
        follows = (
            row["state"] == "COMPLETED"
            and row["version"] == after_version
            and numbers == tuple(range(first, first + len(numbers)))
            and (state == "CANCELLED" or row.get("release", True))
        )
        if not follows:
            raise HistoryBroken(
                f"version {event.originator_version} of order {order_id} does not settle the next "
                "slices of a split order"
            )
        row["settled"] += SETTLED_LETTERS[state] * len(numbers)
        row[_QUANTITY_COLUMNS[state]] += quantity
        row["version"] = event.originator_version
        row["position"] = position
        row["updated_at"] = _checked_time(event.timestamp)


class QueueWriter:
    """Applies log records to the tables of the order queue."""

    def __init__(self, mapper: EventMapper) -> None:
        self._mapper = mapper

    async def apply(
        self,
        connection: Connection,
        records: Sequence[RecordedEvent],
        changes: QueueChanges | None = None,
    ) -> int:
        """Apply records in order; returns how many were foreign.

        `changes` are the changes of all the records, if they are already computed.

        Raises:
            EventTooNew: newer code must apply them.
            Exception: any other error; see `error_source`. Roll the transaction back.
        """
        changes = changes or self.changes_of(records)
        positions = {order_id: row["created_position"] for order_id, row in changes.created.items()}
        due = [
            row["created_position"]
            for row in changes.created.values()
            if row["release"] and row["state"] == "COMPLETED"
        ]
        if changes.created:
            rows = _encode_rows(changes.created.values())
            await connection.execute(INSERT_ORDERS, (rows,), prepare=False)
        if changes.outcomes:
            rows = _encode_rows(changes.outcomes.values())
            updated = await fetch(connection, _APPLY_OUTCOMES, (rows,), prepare=False)
            if missing := len(changes.outcomes) - len(updated):
                raise HistoryBroken(
                    f"{missing} outcomes belong to orders that are not pending, or release "
                    "slices of orders whose release is off"
                )
            positions.update((order_id, position) for order_id, position, _ in updated)
            due += [position for _, position, releases in updated if releases]
        if changes.settled:
            parameters = {"changes": _encode_rows(changes.settled.values())} | _DUE_PARAMETERS
            ((settled, not_due),) = await fetch(
                connection, SETTLE_SLICES, parameters, prepare=False
            )
            if missing := len(changes.settled) - settled:
                raise HistoryBroken(f"{missing} changes do not settle the next slices of an order")
            due += not_due
        if changes.slices:
            slices = [(positions[order_id], own) for order_id, own in changes.slices.items()]
            async with connection.cursor().copy(_COPY_SLICES) as copy:
                await copy.write(_encode_slices(slices))
        if due:
            await refresh_due_orders(connection, due)
        return changes.foreign

    def first_too_new(
        self, records: Iterable[RecordedEvent]
    ) -> tuple[RecordedEvent, EventTooNew] | None:
        """The first record that needs newer code, and the error; None if there is none."""
        for record in records:
            try:
                self.changes_of([record])
            except EventTooNew as error:
                return record, error
            except Exception:  # noqa: BLE001, S112 - `apply` raises it again
                continue
        return None

    async def without_parked(
        self, connection: Connection, records: Sequence[RecordedEvent]
    ) -> list[RecordedEvent]:
        """The records of orders that are not parked."""
        order_ids = [record.originator_id for record in records]
        rows = await fetch(connection, _SELECT_PARKED_AMONG, (order_ids,))
        parked = {row[0] for row in rows}
        return [record for record in records if record.originator_id not in parked]

    async def park(self, connection: Connection, record: RecordedEvent, reason: str) -> None:
        """Park the record's order."""
        parameters = {
            "order_id": record.originator_id,
            "position": record.position,
            "reason": reason,
        }
        await connection.execute(_PARK_ORDER, parameters)

    def changes_of(self, records: Iterable[RecordedEvent]) -> QueueChanges:
        """Compute the changes of these records; raises as `apply`, except for database errors."""
        changes = QueueChanges()
        for record in records:
            if self._mapper.owns(record.topic):
                changes.apply(record.position, self._mapper.event_of(record))
            else:
                changes.foreign += 1
        return changes


async def refresh_due_orders(connection: Connection, positions: Sequence[int]) -> list[int]:
    """Set when the orders created at these positions are due; returns those whose row changed."""
    parameters = {"positions": list(positions)} | _DUE_PARAMETERS
    return [row[0] for row in await fetch(connection, REFRESH_DUE_ORDERS, parameters)]


async def delete_orders(
    connection: Connection,
    order_ids: Sequence[UUID],
    records: Iterable[RecordedEvent],
    kept_pending: Sequence[int] = (),
) -> None:
    """Delete orders from the queue, before they are written again from their `records`.

    `kept_pending` are positions of creation whose rows in pending_orders, with their claims, stay.
    """
    positions = [record.position for record in records if record.originator_version == 1]
    parameters = {
        "order_ids": list(order_ids),
        "positions": positions,
        "kept_pending": list(kept_pending),
    }
    await connection.execute(_DELETE_ORDERS, parameters, prepare=True)


def _window_columns(event: OrderCreated) -> Row:
    terms = event.terms
    if event.sessions:
        require_possible_sessions(terms)
    ends_at = _checked_time(terms.ends_at)
    return {"window_starts_at": _checked_time(terms.starts_at), "window_ends_at": ends_at}


def _encode_slices(slices: Iterable[tuple[int, Iterable[Slice]]]) -> bytes:
    """Encode slices, by their orders' positions, as rows of SLICE_COLUMNS for binary COPY.

    The format is documented under COPY in the Postgres manual. A timestamp is microseconds since
    2000-01-01.

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


def _encode_rows(rows: Iterable[Row]) -> str:
    return msgspec.json.encode(list(rows)).decode()


def _checked_time(time: datetime) -> datetime:
    """Check that a time can be read back: Postgres stores times that Python cannot represent.

    Raises:
        HistoryBroken: the time has no offset from UTC.
        OverflowError: the time in UTC is outside the years 1 to 9999.
    """
    if time.tzinfo is not UTC:  # times written by Pulse decode as UTC
        if time.tzinfo is None:
            raise HistoryBroken(f"{time} has no offset from UTC")
        time.astimezone(UTC)
    return time

"""An order as the API returns it: read from its stream and joined with its claim."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import chain, groupby, repeat
from operator import attrgetter, itemgetter
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

import msgspec

from pulse.domain import Order, Quantities, Slice, SliceState, SplitConfig, Window, fold
from pulse.eventstore import EventMapper, RecordedEvent
from pulse.postgres import BatchLoader, Database, fetch, load_sql
from pulse.projections.queue_writer import SETTLED_LETTERS

Row = tuple[Any, ...]

OrderQueueStatus = Literal["PENDING", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED"]

_SELECT_STREAMS = load_sql(__package__, "select_order_streams")
_SELECT_CREATIONS = load_sql(__package__, "select_order_creations")
_SELECT_PARKED_AMONG = load_sql(__package__, "select_parked_among")
_PLACEHOLDER_CREATION: Final = (
    b'{"timestamp":"2026-03-02T03:45:00Z","recorded_by":{"component":"api","instance":"'
    b'hostname:12345:abcdef","code_version":"0.1.0"},"trace":{"trace_id":"t1772423100abcdef012345",'
    b'"trace_source":"PULSE:POST/internal/orders","request_id":"r1772423100abcdef012345",'
    b'"request_source":"PULSE:POST/internal/orders"},"key_scope":"internal","order_unique_key":"",'
    b'"instrument":"NSE:RELIANCE","side":"BUY","total_quantity":100,"num_splits":5,'
    b'"duration_minutes":60,"randomize":true,"start_at":null,"session_policy":null,'
    b'"split_seed":"ffffffffffffffff","splitter_version":1,'
    b'"placed_by":"anonymous","release":true,"window_starts_at":"2026-03-02T03:45:00Z",'
    b'"applied_policy":"NONE","sessions":[],"calendar_digest":null,"class_version":3}'
)
"""Decoded in place of an order that does not exist, so that the time does not reveal that."""


class _Creation(msgspec.Struct):
    """The field of OrderCreated that this code reads, even in events of newer code."""

    order_unique_key: str


_creations = msgspec.json.Decoder(_Creation)


class SliceView(msgspec.Struct, frozen=True, gc=False):
    """A slice of an order, with its state."""

    sequence_number: int
    quantity: int
    scheduled_at: datetime
    state: SliceState


class AsOf(msgspec.Struct, frozen=True, gc=False):
    """The position of the log that an answer about the past reflects, and its time.

    `position` is that of the last event that is included. `at` is the requested time; if none was
    requested, the latest time recorded up to that event.
    """

    position: int
    at: datetime | None


class OrderView(msgspec.Struct, frozen=True, gc=False):
    """An order with its slices. `release` is whether Pulse releases them at their times.

    `window` is when the first slice is due, and when the last one. `as_of` is set only in answers
    about the past.
    """

    order_id: UUID
    order_unique_key: str
    instrument: str
    side: str
    total_quantity: int
    split_config: SplitConfig
    window: Window
    release: bool
    order_queue_status: OrderQueueStatus
    failure_reason: str | None
    failure_message: str | None
    version: int
    position: int
    placed_by: str
    created_at: datetime
    updated_at: datetime
    split_completed_at: datetime | None
    claimed_by: str | None
    claimed_at: datetime | None
    quantities: Quantities
    slices: tuple[SliceView, ...]
    as_of: AsOf | msgspec.UnsetType = msgspec.UNSET


_FIELDS: Final = OrderView.__struct_fields__
_CONFIG_AT: Final = _FIELDS.index("split_config")
_CLAIM_AT: Final = _FIELDS.index("claimed_by")
_OF_SPEC: Final = _FIELDS[1:_CONFIG_AT]
_OF_CONFIG: Final = SplitConfig.__struct_fields__
_OF_WINDOW: Final = ("window_starts_at", "window_ends_at")
_STATUS_AT: Final = _FIELDS.index("order_queue_status")
_OF_OUTCOME: Final = _FIELDS[_STATUS_AT + 1 : _CLAIM_AT]
ROW_COLUMNS: Final = (
    *("state", "order_id", *_OF_SPEC, *_OF_CONFIG, *_OF_WINDOW, "release", *_OF_OUTCOME),
    *("released_quantity", "cancelled_quantity", "expired_quantity", "settled"),
)
"""The `order_queue` columns in a row for `order_view`; claimed_by and claimed_at follow them."""
_CONFIG_ENDS: Final = _CONFIG_AT + 1 + len(_OF_CONFIG)
_WINDOW_ENDS: Final = _CONFIG_ENDS + len(_OF_WINDOW)
_OUTCOME_ENDS: Final = _WINDOW_ENDS + 1 + len(_OF_OUTCOME)
_CREATED_AT: Final = ROW_COLUMNS.index("created_at")
_MINUTES_AT: Final = ROW_COLUMNS.index("duration_minutes")
_TOTAL_AT: Final = ROW_COLUMNS.index("total_quantity")
_spec_values, _config_values = attrgetter(*_OF_SPEC), attrgetter(*_OF_CONFIG)
_STATES: Final = {letter: state for state, letter in SETTLED_LETTERS.items()}


def order_view(row: Row, slices: tuple[Slice, ...]) -> OrderView:
    """The order in a row: ROW_COLUMNS, then claimed_by and claimed_at (None if not claimed)."""
    state, holder, claimed_at = row[0], *row[-2:]
    released, cancelled, expired, settled = row[_OUTCOME_ENDS:-2]
    claimed = state == "PENDING" and holder is not None
    values: list[Any] = [
        *row[1 : _CONFIG_AT + 1],
        SplitConfig(*row[_CONFIG_AT + 1 : _CONFIG_ENDS]),
        _window_in(row),
        row[_WINDOW_ENDS],
        "IN_PROGRESS" if claimed else state,
        *row[_WINDOW_ENDS + 1 : _OUTCOME_ENDS],
        holder if claimed else None,
        claimed_at if claimed else None,
        Quantities(
            remaining=row[_TOTAL_AT] - released - cancelled - expired,
            released=released,
            cancelled=cancelled,
            expired=expired,
        ),
        _slice_views(slices, [_STATES[letter] for letter in settled]),
    ]
    return OrderView(*values)


def _window_in(row: Row) -> Window:
    """The window. Its columns are NULL if it starts at the creation and has no sessions."""
    starts_at, ends_at = row[_CONFIG_ENDS:_WINDOW_ENDS]
    if starts_at is None:
        starts_at = row[_CREATED_AT]
        ends_at = starts_at + timedelta(minutes=row[_MINUTES_AT])
    return Window(starts_at=starts_at, ends_at=ends_at)


def view_of(
    order: Order, position: int, holder: str | None = None, claimed_at: datetime | None = None
) -> OrderView:
    """The view of a folded order, whose latest event is at `position`, and of its claim."""
    claimed = order.state == "PENDING" and holder is not None
    values: list[Any] = [
        order.id,
        *_spec_values(order.spec),
        SplitConfig(*_config_values(order.spec.split_config)),
        order.window,
        order.release,
        "IN_PROGRESS" if claimed else order.state,
        order.failure_reason,
        order.failure_message,
        order.version,
        position,
        order.placed_by,
        order.created_at,
        order.updated_at,
        order.split_completed_at,
        holder if claimed else None,
        claimed_at if claimed else None,
        order.quantities,
        _slice_views(order.slices, order.settled),
    ]
    return OrderView(*values)


def _slice_views(slices: Sequence[Slice], settled: Sequence[SliceState]) -> tuple[SliceView, ...]:
    """The slices with their states; those after the settled ones are SCHEDULED."""
    states: Iterator[SliceState] = chain(settled, repeat("SCHEDULED"))
    return tuple(
        SliceView(s.sequence_number, s.quantity, s.scheduled_at, state)
        for s, state in zip(slices, states, strict=False)
    )


class FoldedStream(NamedTuple):
    """An order after all of Pulse's events, and the last event of its stream."""

    order: Order
    last: RecordedEvent

    @property
    def position(self) -> int:
        """The position of the last event."""
        return self.last.position

    @property
    def version(self) -> int:
        """Where the stream ends: beyond the order's version if another program wrote to it."""
        return self.last.originator_version


class OrderReader:
    """Reads orders from the log, so that an accepted order is visible at once.

    Concurrent reads share a query.
    """

    def __init__(self, database: Database, mapper: EventMapper) -> None:
        self.database = database
        self._mapper = mapper
        self._streams = BatchLoader(self._select_streams)
        self._keys = BatchLoader(self._select_keys)
        self._parked = BatchLoader(self._select_parked)

    async def key_of(self, order_id: UUID) -> str:
        """The order's order_unique_key; empty if the order does not exist or its key is unreadable.

        The time it takes does not reveal whether the order exists, or its state.
        """
        return await self._keys.get(order_id) or ""

    async def as_created(self, order_id: UUID) -> FoldedStream | None:
        """The order as created, without its later events; None if it does not exist."""
        return self._folded((await self._streams.get(order_id) or [])[:1])

    async def folded(self, order_id: UUID) -> FoldedStream | None:
        """The order after all its events; None if it does not exist."""
        return self._folded(await self._streams.get(order_id) or [])

    async def view(self, order_id: UUID) -> OrderView | None:
        """The order with its slices and claim; None if it does not exist."""
        rows = await self._streams.get(order_id) or []
        order = self._fold(rows)
        return None if order is None else view_of(order, rows[-1][0], *rows[0][6:8])

    async def parked_position(self, order_id: UUID) -> int | None:
        """The position of the event that could not be applied; None if the order is not parked."""
        return await self._parked.get(order_id)

    async def view_up_to(
        self, order_id: UUID, *, position: int | None = None, version: int | None = None
    ) -> OrderView | None:
        """The order after its events up to a position or a version, without its claim.

        None if it has none of them.
        """
        rows = await self._streams.get(order_id) or []
        rows = [
            row
            for row in rows
            if (position is None or row[0] <= position) and (version is None or row[2] <= version)
        ]
        order = self._fold(rows)
        return None if order is None else view_of(order, rows[-1][0])

    def _folded(self, rows: Sequence[Row]) -> FoldedStream | None:
        order = self._fold(rows)
        return None if order is None else FoldedStream(order, RecordedEvent.from_row(rows[-1][:6]))

    def _fold(self, rows: Sequence[Row]) -> Order | None:
        return fold(self._mapper.events_of([RecordedEvent.from_row(row[:6]) for row in rows]))

    async def _select_streams(self, order_ids: list[UUID]) -> dict[UUID, list[Row]]:
        rows = await self.database.read(
            lambda connection: fetch(connection, _SELECT_STREAMS, (order_ids,))
        )
        return {order_id: list(stream) for order_id, stream in groupby(rows, key=itemgetter(1))}

    async def _select_keys(self, order_ids: list[UUID]) -> dict[UUID, str]:
        rows = await self.database.read(
            lambda connection: fetch(
                connection, _SELECT_CREATIONS, (order_ids, _PLACEHOLDER_CREATION)
            )
        )
        return {order_id: _key_in(state) for order_id, state in rows}

    async def _select_parked(self, order_ids: list[UUID]) -> dict[UUID, int]:
        rows = await self.database.read(
            lambda connection: fetch(connection, _SELECT_PARKED_AMONG, (order_ids,))
        )
        return dict(rows)


def _key_in(state: bytes) -> str:
    try:
        return _creations.decode(state).order_unique_key
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ""

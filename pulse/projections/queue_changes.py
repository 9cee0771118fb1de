"""What a batch of the log changes in the order queue: pure, from events alone."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from pulse.domain import (
    TIMED_OUT,
    Event,
    HistoryBroken,
    OrderCreated,
    Slice,
    SlicesScheduled,
    SplittingFailed,
    TimedOut,
)
from pulse.domain.orders import timed_out_message

Columns = tuple[list[Any], ...]


class Outcome(msgspec.Struct, gc=False):
    """The columns of `order_queue` that an outcome sets."""

    order_id: UUID
    state: str
    failure_reason: str | None
    failure_message: str | None
    version: int
    position: int
    updated_at: datetime
    split_completed_at: datetime | None


class NewOrder(msgspec.Struct, gc=False):
    """A row of `order_queue`, its columns in the table's order."""

    order_id: UUID
    order_unique_key: str
    key_scope: str
    placed_by: str
    instrument: str
    side: str
    total_quantity: int
    num_splits: int
    duration_minutes: int
    randomize: bool
    splitter_version: int
    state: str
    failure_reason: str | None
    failure_message: str | None
    version: int
    position: int
    created_position: int
    created_at: datetime
    updated_at: datetime
    split_completed_at: datetime | None


class QueueChanges:
    """The rows a batch adds and changes; an order created and settled in it is written once.

    `foreign` counts the events that were not Pulse's.
    """

    def __init__(self) -> None:
        self.created: dict[UUID, NewOrder] = {}
        self.settled: dict[UUID, Outcome] = {}
        self.ended: list[UUID] = []
        self.foreign = 0
        self.scheduled: dict[UUID, tuple[Slice, ...]] = {}

    def apply(self, position: int, event: Event) -> None:
        """Take in the next event of the log.

        Raises:
            HistoryBroken: a second creation or a second outcome of one order.
        """
        if isinstance(event, OrderCreated):
            self._create(position, event)
        else:
            self._settle(_outcome(position, event))
        if isinstance(event, SlicesScheduled):
            for s in event.slices:
                _instant(s.scheduled_at)
            self.scheduled[event.originator_id] = event.slices

    def slice_columns(self) -> Columns:
        """All slices, one array a column: order, number, quantity, time."""
        order_ids: list[UUID] = []
        slices: list[Slice] = []
        for order_id, own in self.scheduled.items():
            order_ids += [order_id] * len(own)
            slices += own
        return (
            order_ids,
            [s.sequence_number for s in slices],
            [s.quantity for s in slices],
            [s.scheduled_at for s in slices],
        )

    def _create(self, position: int, event: OrderCreated) -> None:
        if event.originator_id in self.created:
            raise HistoryBroken(f"order {event.originator_id} is created a second time")
        if event.originator_version != 1:
            raise HistoryBroken(f"order {event.originator_id} is created at a version above 1")
        self.created[event.originator_id] = NewOrder(
            order_id=event.originator_id,
            order_unique_key=event.order_unique_key,
            key_scope=event.key_scope,
            placed_by=event.placed_by,
            instrument=event.instrument,
            side=event.side,
            total_quantity=event.total_quantity,
            num_splits=event.num_splits,
            duration_minutes=event.duration_minutes,
            randomize=event.randomize,
            splitter_version=event.splitter_version,
            state="PENDING",
            failure_reason=None,
            failure_message=None,
            version=event.originator_version,
            position=position,
            created_position=position,
            created_at=_instant(event.timestamp),
            updated_at=_instant(event.timestamp),
            split_completed_at=None,
        )

    def _settle(self, outcome: Outcome) -> None:
        row = self.created.get(outcome.order_id)
        if outcome.order_id in self.settled or (row is not None and row.state != "PENDING"):
            raise HistoryBroken(f"order {outcome.order_id} has a second outcome")
        self.ended.append(outcome.order_id)
        if row is None:
            self.settled[outcome.order_id] = outcome
            return
        for field in Outcome.__struct_fields__:
            setattr(row, field, getattr(outcome, field))


def columns_of(rows: Iterable[msgspec.Struct]) -> Columns:
    """The rows turned into one array a column, as `unnest` takes them."""
    return tuple(list(column) for column in zip(*map(msgspec.structs.astuple, rows), strict=True))


def _outcome(position: int, event: SlicesScheduled | SplittingFailed | TimedOut) -> Outcome:
    match event:
        case SlicesScheduled():
            state, reason, message = "COMPLETED", None, None
        case SplittingFailed():
            state, reason, message = "FAILED", event.reason, event.message
        case TimedOut():
            state, reason, message = "FAILED", TIMED_OUT, timed_out_message(event)
    return Outcome(
        order_id=event.originator_id,
        state=state,
        failure_reason=reason,
        failure_message=message,
        version=event.originator_version,
        position=position,
        updated_at=_instant(event.timestamp),
        split_completed_at=event.timestamp if state == "COMPLETED" else None,
    )


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

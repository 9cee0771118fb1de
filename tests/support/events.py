"""Events with defaults, for tests that do not depend on the content of events."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec
from eventsourcing.persistence import StoredEvent

from pulse.domain import (
    INTERNAL_SCOPE,
    RELEASE_TOO_LATE,
    Claim,
    Event,
    Halts,
    Order,
    OrderCancelled,
    OrderCreated,
    RecordedBy,
    ReleaseSlices,
    Slice,
    SlicesExpired,
    SlicesReleased,
    SlicesScheduled,
    SplitOrder,
    SplittingFailed,
    TimedOut,
    Trace,
    decide,
    fold,
    order_id_for,
)
from pulse.eventstore import EventMapper

MAPPER = EventMapper()
ADDED_IN_VERSION_3: Final = (
    *("start_at", "session_policy", "window_starts_at", "applied_policy", "sessions"),
    "calendar_digest",
)
"""The fields of OrderCreated that class versions 1 and 2 do not have."""
ADDED_SINCE_VERSION_1: Final = (*ADDED_IN_VERSION_3, "release", "class_version")
"""The fields that class version 1 does not have."""
AUTHOR = RecordedBy(component="api", instance="host:1:abc", code_version="0.1.0")
TRACE = Trace(trace_id="t1", trace_source="test", request_id="r1", request_source="test")


def order_created(order_unique_key: str | None = None, **changes: Any) -> OrderCreated:
    """An order of 100 shares in 5 slices over an hour, created now; `changes` by field name."""
    key = order_unique_key or uuid4().hex
    timestamp = changes.get("timestamp", datetime.now(UTC))
    created = OrderCreated(
        originator_id=order_id_for(INTERNAL_SCOPE, key),
        originator_version=1,
        timestamp=timestamp,
        recorded_by=AUTHOR,
        trace=TRACE,
        key_scope=INTERNAL_SCOPE,
        order_unique_key=key,
        instrument="NSE:RELIANCE",
        side="BUY",
        total_quantity=100,
        num_splits=5,
        duration_minutes=60,
        randomize=True,
        start_at=None,
        session_policy=None,
        split_seed="00000000000000ff",
        splitter_version=1,
        placed_by="tester",
        release=True,
        window_starts_at=timestamp,
        applied_policy="NONE",
        sessions=(),
        calendar_digest=None,
    )
    return msgspec.structs.replace(created, **changes)


def state_of_version_1(created: OrderCreated) -> bytes:
    """The stored state of this event in class version 1, which has fewer fields."""
    first = StoredEvent(created.originator_id, 1, created.TOPIC, b"{}")
    return MAPPER.state_as_stored(created, first)


def orders_created(count: int, **changes: Any) -> list[OrderCreated]:
    """That many different orders."""
    return [order_created(**changes) for _ in range(count)]


def slices_scheduled(created: OrderCreated, worker: str = "worker-1") -> SlicesScheduled:
    """The outcome of the order, by a worker that claimed it at its creation."""
    claim = Claim(worker=worker, claimed_at=created.timestamp, first_claimed_at=created.timestamp)
    command = SplitOrder(
        claim=claim,
        max_split_delay_seconds=0,
        at=created.timestamp + timedelta(seconds=1),
        request_id="r2",
        recorded_by=AUTHOR,
    )
    (event,) = decide(command, fold([created]))
    assert isinstance(event, SlicesScheduled)
    return event


def splitting_failed(created: OrderCreated, reason: str = "SPLITTING_ERROR") -> SplittingFailed:
    """The outcome of an order that could not be split."""
    return SplittingFailed(
        originator_id=created.originator_id,
        originator_version=2,
        timestamp=created.timestamp + timedelta(seconds=1),
        recorded_by=AUTHOR,
        trace=TRACE,
        reason=reason,
        message="a rule is broken",
        worker="worker-1",
        claimed_at=created.timestamp,
    )


def timed_out(created: OrderCreated) -> TimedOut:
    """The outcome of an order that timed out."""
    return TimedOut(
        originator_id=created.originator_id,
        originator_version=2,
        timestamp=created.timestamp + timedelta(seconds=300),
        recorded_by=AUTHOR,
        trace=TRACE,
        claimed_by="worker-1",
        claimed_at=created.timestamp,
        timeout_seconds=300,
        detected_by="monitor-1",
    )


def slices_released(*history: Event, count: int = 1, at: datetime | None = None) -> SlicesReleased:
    """The release of the next `count` slices, by default at the time of the last of them."""
    order, slices = _next_slices(history, count)
    return SlicesReleased(
        originator_id=order.id,
        originator_version=order.version + 1,
        timestamp=at or slices[-1].scheduled_at,
        recorded_by=AUTHOR,
        trace=TRACE,
        order_unique_key=order.spec.order_unique_key,
        instrument=order.spec.instrument,
        side=order.spec.side,
        slices=slices,
    )


def slices_expired(*history: Event, count: int = 1, at: datetime | None = None) -> SlicesExpired:
    """The expiry of the next `count` slices, by default a minute after the last of them."""
    order, slices = _next_slices(history, count)
    return SlicesExpired(
        originator_id=order.id,
        originator_version=order.version + 1,
        timestamp=at or slices[-1].scheduled_at + timedelta(seconds=60),
        recorded_by=AUTHOR,
        trace=TRACE,
        sequence_numbers=tuple(s.sequence_number for s in slices),
        quantity=sum(s.quantity for s in slices),
        reason=RELEASE_TOO_LATE,
    )


def order_cancelled(
    *history: Event, at: datetime | None = None, reason: str | None = None
) -> OrderCancelled:
    """The cancellation of everything that is left, by default at the time of the last event."""
    order = fold(history)
    assert order is not None
    return OrderCancelled(
        originator_id=order.id,
        originator_version=order.version + 1,
        timestamp=at or order.updated_at,
        recorded_by=AUTHOR,
        trace=TRACE,
        sequence_numbers=tuple(s.sequence_number for s in order.unsettled),
        quantity=order.quantities.remaining,
        reason=reason,
        cancelled_by="tester",
    )


def _next_slices(history: Sequence[Event], count: int) -> tuple[Order, tuple[Slice, ...]]:
    order = fold(history)
    assert order is not None
    assert 1 <= count <= len(order.unsettled)
    return order, order.unsettled[:count]


def stored(events: Sequence[Event]) -> tuple[StoredEvent, ...]:
    """Their stored form."""
    return tuple(MAPPER.to_stored_event(event) for event in events)


def foreign_event(
    stream: UUID | str | None = None, version: int = 1, state: bytes | None = None
) -> StoredEvent:
    """A stored event of another application, by default with random state."""
    return StoredEvent(
        originator_id=stream or uuid4(),
        originator_version=version,
        topic="elsewhere:Happened",
        state=uuid4().hex.encode() if state is None else state,
    )


def foreign_events(count: int) -> list[StoredEvent]:
    """`count` events of another application, each in its own stream."""
    return [foreign_event() for _ in range(count)]


def settled(
    history: Iterable[Event], at: datetime, max_delay_seconds: float = 60
) -> tuple[Event, ...]:
    """What a releaser appends to this history at this moment, at most one event."""
    command = ReleaseSlices(
        halts=Halts(),
        max_delay_seconds=max_delay_seconds,
        released_by="releaser-1",
        at=at,
        request_id="r3",
        recorded_by=AUTHOR,
    )
    return decide(command, fold(history))

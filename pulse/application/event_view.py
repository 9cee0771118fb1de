"""Stored events as the API and the commands show them."""

from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from pulse.domain import EVENT_TYPES, HALTS_STREAM_ID, Event
from pulse.eventstore import EventMapper, EventTooNew, EventUnreadable, RecordedEvent

EventType = Literal[
    "OrderCreated",
    "SlicesScheduled",
    "SplittingFailed",
    "TimedOut",
    "OrderCancelled",
    "SlicesReleased",
    "SlicesExpired",
    "ReleasesHalted",
    "ReleasesResumed",
]

TOPICS: Final[dict[str, str]] = {
    event_type.__name__: event_type.TOPIC for event_type in EVENT_TYPES
}
"""The topic of each event type."""

_NESTING_MARGIN: Final = 100
"""Nesting levels that are reserved for an answer, which contains a stored event."""


class EventView(msgspec.Struct, frozen=True):
    """An event as the API returns it; `data` has the fields that are not in the envelope.

    `order_id` is None for the events of halts, which belong to no order.
    """

    position: int
    order_id: UUID | None
    version: int
    type: str
    occurred_at: str | None
    recorded_at: datetime
    data: dict[str, Any]


class LogEntry(msgspec.Struct, frozen=True):
    """An event as the API returns it, and decoded; `event` is None if this code cannot read it."""

    view: EventView
    event: Event | None


def event_view(record: RecordedEvent, mapper: EventMapper) -> EventView:
    """The view of a record. Never raises, so one event cannot prevent reading the others.

    An event of another program, or one that cannot be decoded, is shown as stored. An event of
    newer code has the type that the newer code gave it.
    """
    data = _fields(record.state)
    occurred_at = data.pop("timestamp") if isinstance(data.get("timestamp"), str) else None
    return EventView(
        position=record.position,
        order_id=None if record.originator_id == HALTS_STREAM_ID else record.originator_id,
        version=record.originator_version,
        type=record.topic.rpartition(":")[2] if mapper.owns(record.topic) else record.topic,
        occurred_at=occurred_at,
        recorded_at=record.recorded_at,
        data=data,
    )


def readable_event(record: RecordedEvent, mapper: EventMapper) -> Event | None:
    """The event in a record; None if it is another program's, or this code cannot decode it."""
    try:
        return mapper.event_of(record) if mapper.owns(record.topic) else None
    except (EventTooNew, EventUnreadable):
        return None


def log_entry(record: RecordedEvent, mapper: EventMapper) -> LogEntry:
    """The view of a record, and its event. Never raises."""
    return LogEntry(event_view(record, mapper), readable_event(record, mapper))


def _fields(state: bytes) -> dict[str, Any]:
    try:
        if state.count(b"[") + state.count(b"{") > _NESTING_MARGIN:  # it must also be encodable
            msgspec.json.decode(b"[" * _NESTING_MARGIN + state + b"]" * _NESTING_MARGIN)
        return msgspec.json.decode(state, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {"state_hex": state.hex()}

"""A stored event as people read it."""

from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from pulse.domain import EVENT_TYPES
from pulse.eventstore import EventMapper, RecordedEvent

EventType = Literal["OrderCreated", "SlicesScheduled", "SplittingFailed", "TimedOut"]

TOPICS: Final[dict[str, str]] = {
    event_type.__name__: event_type.TOPIC for event_type in EVENT_TYPES
}
"""The topic in the log of each type as people read it."""


class EventView(msgspec.Struct, frozen=True):
    """An event as answered; `data` holds its own fields and repeats none of the others."""

    position: int
    order_id: UUID
    version: int
    type: str
    occurred_at: str | None
    recorded_at: datetime
    data: dict[str, Any]


def event_view(record: RecordedEvent, mapper: EventMapper) -> EventView:
    """The view of a record. What is not Pulse's, or cannot be read, is shown as it is stored."""
    data = _fields(record.state)
    occurred_at = data.pop("timestamp", None)
    own = mapper.knows(record.topic)
    return EventView(
        position=record.position,
        order_id=record.originator_id,
        version=record.originator_version,
        type=record.topic.rpartition(":")[2] if own else record.topic,
        occurred_at=occurred_at,
        recorded_at=record.recorded_at,
        data=data,
    )


def _fields(state: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(state, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {"state_hex": state.hex()}

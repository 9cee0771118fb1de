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

_NESTING_MARGIN: Final = 100
"""How many levels deeper than decoding alone an answer may be nested when it is encoded."""


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
    """The view of a record; never raises, so that no event keeps others from being read.

    A foreign event, or one that cannot be read, is shown as it is stored. An event of newer code
    has the type that newer code calls it.
    """
    data = _fields(record.state)
    occurred_at = data.pop("timestamp") if isinstance(data.get("timestamp"), str) else None
    return EventView(
        position=record.position,
        order_id=record.originator_id,
        version=record.originator_version,
        type=record.topic.rpartition(":")[2] if mapper.owns(record.topic) else record.topic,
        occurred_at=occurred_at,
        recorded_at=record.recorded_at,
        data=data,
    )


def _fields(state: bytes) -> dict[str, Any]:
    try:
        if state.count(b"[") + state.count(b"{") > _NESTING_MARGIN:  # it must also be written again
            msgspec.json.decode(b"[" * _NESTING_MARGIN + state + b"]" * _NESTING_MARGIN)
        return msgspec.json.decode(state, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {"state_hex": state.hex()}

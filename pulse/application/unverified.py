"""Orders that a verification of schedules cannot verify, and why."""

from collections.abc import AsyncIterator, Sequence
from typing import Final, Literal
from uuid import UUID

import msgspec

from pulse.application.acceptance import require_accepted
from pulse.domain import HistoryBroken, OrderCreated, SlicesScheduled
from pulse.eventstore import EventMapper, EventStore, EventTooNew, EventUnreadable, RecordedEvent
from pulse.projections import ParkedOrder

_PAGE: Final = 1000
_BEFORE_EVERY_POSITION: Final = -(2**63)

Obstacle = Literal["PARKED", "UNREADABLE", "NEWER_CODE"]


class Unverified(msgspec.Struct, frozen=True):
    """An order that was not verified; `position` is that of the event at which it is stuck."""

    order_id: UUID
    position: int
    obstacle: Obstacle
    detail: str

    @classmethod
    def parked(cls, order: ParkedOrder) -> "Unverified":
        """An order that the projection has set aside."""
        return cls(order.order_id, order.position, "PARKED", order.reason)


async def unread_orders(store: EventStore) -> AsyncIterator[Unverified]:
    """Orders without a schedule whose events this code cannot read, one line for each event.

    An order with a schedule is what the verification of schedules reports on.

    Raises:
        DatabaseUnavailable: the log cannot be read.
    """
    position, end = _BEFORE_EVERY_POSITION, await store.end()
    while position < end:
        records = await store.read_log(after=position, limit=_PAGE)
        if not records:
            return
        position = records[-1].position
        for found in await _without_schedule(store, records):
            yield found


async def unread_in(store: EventStore, order_id: UUID) -> list[Unverified]:
    """The same of one order."""
    return await _without_schedule(store, await store.read_stream(order_id))


async def _without_schedule(
    store: EventStore, records: Sequence[RecordedEvent]
) -> list[Unverified]:
    found = [one for record in records for one in _obstacle(store.mapper, record)]
    streams = await store.read_streams([one.order_id for one in found]) if found else {}
    return [
        one
        for one in found
        if all(record.topic != SlicesScheduled.TOPIC for record in streams[one.order_id])
    ]


def _obstacle(mapper: EventMapper, record: RecordedEvent) -> list[Unverified]:
    """What keeps the event from being read, if anything; other programs' events are no orders."""
    if not mapper.owns(record.topic):
        return []
    try:
        event = mapper.event_of(record)
        if isinstance(event, OrderCreated):
            require_accepted(event)
    except EventTooNew as error:
        return [_unverified(record, "NEWER_CODE", str(error))]
    except (EventUnreadable, HistoryBroken) as error:
        return [_unverified(record, "UNREADABLE", str(error))]
    return []


def _unverified(record: RecordedEvent, obstacle: Obstacle, detail: str) -> Unverified:
    return Unverified(record.originator_id, record.position, obstacle, detail)

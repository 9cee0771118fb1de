"""When a slice is released, and when it expires instead. All times are by the database's clock.

A slice is released at its time, never before. It can be released late: until its successor is due,
or for MIN_RELEASE_SECONDS if that is longer, but for the `max_delay_seconds` of the releaser at
most. Then it expires. So after an outage or a halt the slices of an order do not all go out at
once.
"""

from datetime import datetime, timedelta
from itertools import takewhile, zip_longest
from typing import Any, Final
from uuid import UUID

from pulse.domain.commands import ReleaseSlices
from pulse.domain.events import SlicesExpired, SlicesReleased, background_event_fields
from pulse.domain.order_request import Side
from pulse.domain.values import Slice, Value

MIN_RELEASE_SECONDS: Final = 1.0
"""A slice can be released for at least this long after its time, even if its successor is due."""

MIN_DISTANCE_SECONDS: Final = 1.0
"""The minimum time from the release of a late slice to the next slice.

It applies to two slices that were planned at least this far apart. If their planned distance less
CATCH_UP_SECONDS is shorter, that is the minimum.
"""

CATCH_UP_SECONDS: Final = 0.1
"""A slice may follow a late one closer than planned, by this much or more: delays do not add up."""

RELEASE_TOO_LATE: Final = "RELEASE_TOO_LATE"

_MIN_RELEASE: Final = timedelta(seconds=MIN_RELEASE_SECONDS)


class DueOrder(Value, frozen=True):
    """What a releaser needs to know of a due order, without reading its stream.

    `unsettled` are its next unsettled slices: every one whose time has come, and at least the one
    after them, if there is one.
    """

    order_id: UUID
    version: int
    order_unique_key: str
    instrument: str
    side: Side
    placed_by: str
    trace_id: str
    unsettled: tuple[Slice, ...]


def due_at(next_slice: Slice, released: Slice | None, released_at: datetime) -> datetime:
    """When a releaser has to process an order: at the time of its next slice, or a little later.

    `released` is the slice that the order's last event released, at `released_at`; None if that
    event released none. If it was late, and the next slice was planned MIN_DISTANCE_SECONDS or more
    after it, the next slice follows it after MIN_DISTANCE_SECONDS, or after the planned distance
    less CATCH_UP_SECONDS if that is shorter.
    """
    distance = timedelta(seconds=MIN_DISTANCE_SECONDS)
    if released is None or (planned := next_slice.scheduled_at - released.scheduled_at) < distance:
        return next_slice.scheduled_at
    kept = min(distance, planned - timedelta(seconds=CATCH_UP_SECONDS))
    return max(next_slice.scheduled_at, released_at + kept)


def expires_at(s: Slice, successor: Slice | None, max_delay_seconds: float) -> datetime:
    """The time from which a slice can no longer be released."""
    latest = s.scheduled_at + timedelta(seconds=max_delay_seconds)
    if successor is None:
        return latest
    return min(latest, max(s.scheduled_at + _MIN_RELEASE, successor.scheduled_at))


def release_due(
    command: ReleaseSlices, order: DueOrder
) -> tuple[SlicesReleased | SlicesExpired, ...]:
    """The event that releases or expires slices of this order now; empty if nothing can be settled.

    If slices have expired, the event expires them, and the next call releases those that follow. So
    each event settles the next slices of its order. While the order is halted, its slices can
    expire, but none is released.
    """
    slices = order.unsettled
    expired: list[Slice] = []
    for s, successor in zip_longest(slices, slices[1:]):  # each expires before those after it
        if expires_at(s, successor, command.max_delay_seconds) > command.at:
            break
        expired.append(s)
    if expired:
        return (
            SlicesExpired(
                **_next_event(command, order),
                sequence_numbers=tuple(s.sequence_number for s in expired),
                quantity=sum(s.quantity for s in expired),
                reason=RELEASE_TOO_LATE,
            ),
        )
    if command.halts.covers(order.instrument, order.placed_by):
        return ()
    due = tuple(takewhile(lambda s: s.scheduled_at <= command.at, slices))
    if not due:
        return ()
    return (
        SlicesReleased(
            **_next_event(command, order),
            order_unique_key=order.order_unique_key,
            instrument=order.instrument,
            side=order.side,
            slices=due,
        ),
    )


def _next_event(command: ReleaseSlices, order: DueOrder) -> dict[str, Any]:
    return background_event_fields(
        order_id=order.order_id,
        version=order.version + 1,
        trace_id=order.trace_id,
        at=command.at,
        request_id=command.request_id,
        recorded_by=command.recorded_by,
        process=command.released_by,
        context=command.context,
    )

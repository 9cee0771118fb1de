"""Cursors: where the next page begins and for which filters, opaque to whoever carries them."""

import base64
from datetime import datetime
from typing import Annotated, Final, TypeVar
from uuid import UUID

import msgspec

from pulse.http.parameters import refused
from pulse.projections import OrderQuery, SlicePlace, SliceQuery

_EXPECTED: Final = "the next_cursor of an earlier page, with the filters of that page"

Position = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
SequenceNumber = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
Time = Annotated[datetime, msgspec.Meta(tz=True)]


class OrderCursor(msgspec.Struct, frozen=True, array_like=True, tag="orders"):
    """The next page of orders."""

    order_queue_status: str | None
    instrument: str | None
    before: Position


class SliceCursor(msgspec.Struct, frozen=True, array_like=True, tag="slices"):
    """The next page of slices."""

    scheduled_from: Time | None
    scheduled_before: Time | None
    scheduled_at: Time
    order_id: UUID
    sequence_number: SequenceNumber


Cursor = TypeVar("Cursor", OrderCursor, SliceCursor)


def after_page_of_orders(query: OrderQuery, next_before: int | None) -> str | None:
    """The cursor of the page that follows one of this query, None after the last."""
    if next_before is None:
        return None
    return _encode(OrderCursor(query.order_queue_status, query.instrument, next_before))


def before_of(text: str | None, query: OrderQuery) -> int | None:
    """Where a cursor of these filters leads to."""
    if text is None:
        return None
    cursor = _decode(text, OrderCursor)
    if (cursor.order_queue_status, cursor.instrument) != (
        query.order_queue_status,
        query.instrument,
    ):
        raise _of_other_filters()
    return cursor.before


def after_page_of_slices(query: SliceQuery, next_after: SlicePlace | None) -> str | None:
    """The cursor of the page that follows one of this query, None after the last."""
    if next_after is None:
        return None
    cursor = SliceCursor(
        query.scheduled_from,
        query.scheduled_before,
        next_after.scheduled_at,
        next_after.order_id,
        next_after.sequence_number,
    )
    return _encode(cursor)


def place_of(text: str | None, query: SliceQuery) -> SlicePlace | None:
    """Where a cursor of these filters leads to."""
    if text is None:
        return None
    cursor = _decode(text, SliceCursor)
    if (cursor.scheduled_from, cursor.scheduled_before) != (
        query.scheduled_from,
        query.scheduled_before,
    ):
        raise _of_other_filters()
    return SlicePlace(cursor.scheduled_at, cursor.order_id, cursor.sequence_number)


def _of_other_filters() -> Exception:
    return refused("cursor", "belongs to other filters", _EXPECTED)


def _encode(cursor: OrderCursor | SliceCursor) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).rstrip(b"=").decode()


def _decode(text: str, kind: type[Cursor]) -> Cursor:
    """Only what `_encode` makes: one cursor has one form."""
    try:
        state = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        cursor = msgspec.json.decode(state, type=kind)
        if _encode(cursor) == text:
            return cursor
    except (ValueError, RecursionError):  # msgspec's errors and base64's are ValueErrors
        pass
    raise refused("cursor", "is none of this list", _EXPECTED)

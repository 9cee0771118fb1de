"""Lists across orders: orders, slices, and the log, page by page.

A cursor encodes where the next page starts and its filters. It is opaque to callers.
"""

import base64
from datetime import datetime
from typing import Annotated, Final, TypeVar
from uuid import UUID

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta

from pulse.application.event_view import EventType, EventView
from pulse.application.in_process import InProcessOrders
from pulse.application.orders import EventQuery
from pulse.domain.order_request import Instrument
from pulse.eventstore import MOST_SCANNED, PositionBeyondLog
from pulse.http.errors import BadRequest
from pulse.http.parameters import parameter_error
from pulse.projections.lists import (
    MAX_ORDERS_A_PAGE,
    MAX_SLICES_A_PAGE,
    OrderQuery,
    ScheduledSlice,
    SlicePlace,
    SliceQuery,
)
from pulse.projections.order_view import OrderQueueStatus, OrderView

MAX_EVENTS_A_PAGE: Final = 1000
LAST_POSITION: Final = 2**63 - 1
_CURSOR_EXPECTED: Final = "the next_cursor of an earlier page, with the filters of that page"

Position = Annotated[int, Meta(ge=1, le=LAST_POSITION)]
CursorText = Annotated[str, Meta(description=_CURSOR_EXPECTED)]
NextCursor = Annotated[str, Meta(description="the cursor of the next page; null if there is none")]
ZonedTime = Annotated[
    datetime,
    Meta(tz=True, description="an RFC 3339 time with its zone, such as 2026-01-05T09:15:00+05:30"),
]


class OrderParameters(msgspec.Struct, frozen=True):
    """The query parameters of a list of orders."""

    order_queue_status: OrderQueueStatus | None = None
    instrument: Instrument | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_ORDERS_A_PAGE)] = 50
    cursor: CursorText | None = None


class SliceParameters(msgspec.Struct, frozen=True):
    """The query parameters of a list of slices."""

    scheduled_from: ZonedTime | None = None
    scheduled_before: ZonedTime | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_SLICES_A_PAGE)] = 100
    cursor: CursorText | None = None


class EventParameters(msgspec.Struct, frozen=True):
    """The query parameters of a page of the log."""

    after: Annotated[int, Meta(ge=0, description="exclusive; 0 is the start of the log")] = 0
    limit: Annotated[int, Meta(ge=1, le=MAX_EVENTS_A_PAGE)] = 100
    type: EventType | None = None


class OrderPage(msgspec.Struct, frozen=True):
    """A page of orders, newest first."""

    orders: tuple[OrderView, ...]
    next_cursor: NextCursor | None
    as_of_position: Annotated[
        int, Meta(ge=0, description="the position of the log that this list reflects")
    ]


class SlicePage(msgspec.Struct, frozen=True):
    """A page of slices by time. A slice is listed once; only its state changes."""

    slices: tuple[ScheduledSlice, ...]
    next_cursor: NextCursor | None


class EventPage(msgspec.Struct, frozen=True):
    """A page of the log."""

    log_id: Annotated[
        UUID,
        Meta(
            description="identifies the log; it changes when the log is restored to an earlier "
            "point, and then a reader must stop"
        ),
    ]
    events: tuple[EventView, ...]
    next_after: Annotated[
        int,
        Meta(
            ge=0,
            description="the last position scanned: send it as `after` for the next page. Equal to "
            "the `after` that was sent, it says that the log ends here for now",
        ),
    ]


class OrderCursor(msgspec.Struct, frozen=True, array_like=True, tag="orders"):
    """Where the next page of orders starts; the first fields are the filters."""

    order_queue_status: str | None
    instrument: str | None
    before: Position


class SliceCursor(msgspec.Struct, frozen=True, array_like=True, tag="slices"):
    """Where the next page of slices starts; the first fields are the filters."""

    scheduled_from: ZonedTime | None
    scheduled_before: ZonedTime | None
    scheduled_at: ZonedTime
    created_position: Position


Cursor = TypeVar("Cursor", OrderCursor, SliceCursor)


def encode_cursor(cursor: OrderCursor | SliceCursor) -> str:
    """The text of a cursor."""
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).rstrip(b"=").decode()


def decode_cursor(text: str, kind: type[Cursor], *filters: object) -> Cursor:
    """The cursor of a page with these filters.

    Raises:
        BadRequest: the text is not a cursor of this list, or belongs to other filters.
    """
    try:
        state = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        cursor = msgspec.json.decode(state, type=kind)
    except (ValueError, RecursionError):  # ValueError covers msgspec and base64
        cursor = None
    if cursor is None or encode_cursor(cursor) != text:
        raise parameter_error("cursor", "is not a cursor of this list", _CURSOR_EXPECTED)
    if msgspec.structs.astuple(cursor)[: len(filters)] != filters:
        raise parameter_error("cursor", "belongs to other filters", _CURSOR_EXPECTED)
    return cursor


def order_query(parameters: OrderParameters) -> OrderQuery:
    """The requested page of orders.

    Raises:
        BadRequest: the cursor does not belong to this list.
    """
    status, instrument = parameters.order_queue_status, parameters.instrument
    before = None
    if parameters.cursor is not None:
        before = decode_cursor(parameters.cursor, OrderCursor, status, instrument).before
    return OrderQuery(
        order_queue_status=status, instrument=instrument, limit=parameters.limit, before=before
    )


def slice_query(parameters: SliceParameters) -> SliceQuery:
    """The requested page of slices.

    Raises:
        BadRequest: the times are in the wrong order, or the cursor does not belong to this list.
    """
    begin, end = parameters.scheduled_from, parameters.scheduled_before
    if begin is not None and end is not None and end < begin:
        raise parameter_error(
            "scheduled_before", "is too early", "a time not before scheduled_from"
        )
    after = None
    if parameters.cursor is not None:
        cursor = decode_cursor(parameters.cursor, SliceCursor, begin, end)
        after = SlicePlace(cursor.scheduled_at, cursor.created_position)
    return SliceQuery(
        scheduled_from=begin, scheduled_before=end, limit=parameters.limit, after=after
    )


def beyond_log(error: PositionBeyondLog) -> BadRequest:
    """The error for a position beyond the end of the log."""
    return BadRequest(
        str(error),
        code="POSITION_BEYOND_LOG",
        field="after",
        expected=f"a position from 0 to {error.end}",
        after=error.after,
        end=error.end,
    )


def list_routes(queries: InProcessOrders) -> list[HTTPRouteHandler]:
    """The routes of the lists over these queries."""

    @get(
        "/internal/orders",
        summary="List orders, newest first",
        tags=["lists"],
        response_description="A page.",
    )
    async def list_orders(parameters: NamedDependency[OrderParameters]) -> OrderPage:
        """Orders by position of creation, read from the projection, which follows the log.

        `as_of_position` is the position of the log that the page reflects. Send `next_cursor` as
        `cursor`, with the same filters, for the next page; null marks the last one. Consecutive
        pages neither skip nor repeat an order. `order_queue_status` filters by the status at the
        time of each page, so an order that changes its status between two pages may be on neither.
        A cursor that is malformed or belongs to other filters is 400.
        """
        page = await queries.orders(order_query(parameters))
        cursor = None
        if page.next_before is not None:
            filters = parameters.order_queue_status, parameters.instrument
            cursor = encode_cursor(OrderCursor(*filters, page.next_before))
        return OrderPage(page.orders, cursor, page.as_of_position)

    @get(
        "/internal/slices",
        summary="List slices by time",
        tags=["lists"],
        response_description="A page.",
    )
    async def list_slices(parameters: NamedDependency[SliceParameters]) -> SlicePage:
        """Slices of all orders, read from the projection, each with its `state` as projected.

        `scheduled_from` is inclusive, `scheduled_before` exclusive; 400 if it is earlier than
        `scheduled_from`. Both need a zone. They are compared with all their fraction digits, while
        slices have whole microseconds. `+` in a time is a plus, encoded or not. Send `next_cursor`
        as `cursor`, with the same filters, for the next page; null marks the last one. A slice
        that is added later, at a time before the cursor, is on no later page.
        """
        page = await queries.slices(slice_query(parameters))
        cursor = None
        if (place := page.next_after) is not None:
            filters = parameters.scheduled_from, parameters.scheduled_before
            cursor = encode_cursor(SliceCursor(*filters, *msgspec.structs.astuple(place)))
        return SlicePage(page.slices, cursor)

    @get(
        "/internal/events",
        summary="Read the log in commit order",
        tags=["events"],
        response_description="A page.",
    )
    async def list_events(parameters: NamedDependency[EventParameters]) -> EventPage:
        query = EventQuery(
            after=min(parameters.after, LAST_POSITION),  # no log reaches further
            limit=parameters.limit,
            type=parameters.type,
        )
        try:
            page = await queries.events(query)
        except PositionBeyondLog as error:
            raise beyond_log(error) from None
        return EventPage(page.log_id, page.events, page.next_after)

    list_events.fn.__doc__ = f"""
To read the whole log, start with `after=0` and send each page's `next_after` as the next `after`.
A reader that stores `next_after` misses no event and reads none twice. The log ends, for now, where
`next_after` equals the `after` that was sent: poll again from there.

**An empty page is not the end**: with `type` one call scans at most {MOST_SCANNED:,} events, so a
page may hold few events of that type or none, and `next_after` still moves on.

To read up to a fixed point, stop once `next_after` has reached the `as_of_position` of
`GET /internal/orders`, the position that list reflects. `after` beyond the end of the log is 400
`POSITION_BEYOND_LOG`: this is not the log that was read before. The same is true if `log_id` is
another one than in the pages before: stop. To receive events as they are committed, read
`GET /internal/events/stream`.
"""
    return [list_orders, list_slices, list_events]

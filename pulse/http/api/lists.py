"""Lists across orders: orders and slices, page by page.

A cursor encodes where the next page starts and its filters. It is opaque to callers.
"""

import base64
from datetime import datetime
from hashlib import blake2b
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import msgspec
from litestar import Request, get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta

from pulse.application.callers import MAX_NAME_CHARACTERS, Caller, CallerUnnamable
from pulse.application.in_process import MAX_RECORDING_DIFFERENCE, InProcessOrders
from pulse.application.list_reads import MAX_WAIT_SECONDS
from pulse.application.orders import OwnOrderQuery
from pulse.domain import INTERNAL_SCOPE, order_id_for
from pulse.domain.order_request import Instrument, OrderUniqueKey
from pulse.eventstore import PositionBeyondLog
from pulse.http.asgi import caller_in
from pulse.http.errors import CURSOR_EXPECTED, BadRequest, beyond_log
from pulse.http.parameters import ZonedTime, parameter_error, require_times_in_order
from pulse.http.rights import needs
from pulse.projections.due_slices import SliceWithOrderPage
from pulse.projections.lists import (
    MAX_EXAMINED,
    MAX_ORDERS_PER_PAGE,
    MAX_SLICES_PER_PAGE,
    OrderQuery,
    ScheduledSlice,
    SliceCursorKey,
    SliceQuery,
)
from pulse.projections.lists import OrderPage as QueuePage
from pulse.projections.lists import SlicePage as QueueSlicePage
from pulse.projections.order_view import OrderQueueStatus, OrderView

LAST_POSITION: Final = 2**63 - 1
_DIGEST_BYTES: Final = 16
_SCOPE_EXPECTED: Final = (
    f"{INTERNAL_SCOPE}, or a caller of the gateway as <issuer>|<subject>, each percent-encoded"
)

Position = Annotated[int, Meta(ge=1, le=LAST_POSITION)]
AsOfPosition = Annotated[int, Meta(ge=0, le=LAST_POSITION)]
CursorText = Annotated[str, Meta(description=CURSOR_EXPECTED)]
NextCursor = Annotated[str, Meta(description="the cursor of the next page; null if there is none")]
MinPosition = Annotated[
    int,
    Meta(
        ge=0,
        le=LAST_POSITION,
        description="the position of the log that the page must reflect at least, such as the "
        "X-Pulse-Position of an answer",
    ),
]
_VISIBLE: Final = r"^[!-~]+(?![\s\S])"
CallerName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_NAME_CHARACTERS,
        pattern=_VISIBLE,
        description="the placed_by of an order: visible ASCII characters",
    ),
]
KeyScope = Annotated[
    str, Meta(max_length=MAX_NAME_CHARACTERS, pattern=_VISIBLE, description=_SCOPE_EXPECTED)
]
TraceId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        pattern=_VISIBLE,
        description="the trace id of an order's request: 1 to 128 visible ASCII characters",
    ),
]


class OrderParameters(msgspec.Struct, frozen=True):
    """The query parameters of a list of orders."""

    order_queue_status: OrderQueueStatus | None = None
    instrument: Instrument | None = None
    order_unique_key: OrderUniqueKey | None = None
    key_scope: KeyScope | None = None
    placed_by: CallerName | None = None
    trace_id: TraceId | None = None
    created_from: ZonedTime | None = None
    created_before: ZonedTime | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_ORDERS_PER_PAGE)] = 50
    cursor: CursorText | None = None
    min_position: MinPosition | None = None


class SliceParameters(msgspec.Struct, frozen=True):
    """The query parameters of a list of slices."""

    scheduled_from: ZonedTime | None = None
    scheduled_before: ZonedTime | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_SLICES_PER_PAGE)] = 100
    cursor: CursorText | None = None
    min_position: MinPosition | None = None


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


class OrderCursor(msgspec.Struct, frozen=True, array_like=True, tag="orders"):
    """Where the next page of orders starts in a log; `filters` is a digest of the filters.

    `as_of` is the position that the page before reflected: the next page must reflect it too. It
    is 0 if no page can be older than the page before it.
    """

    filters: str
    before: Position
    log_id: UUID
    as_of: AsOfPosition = 0


class SliceCursor(msgspec.Struct, frozen=True, array_like=True, tag="slices"):
    """Where the next page of slices starts in a log; the first fields are the filters.

    `as_of` is as in `OrderCursor`.
    """

    scheduled_from: ZonedTime | None
    scheduled_before: ZonedTime | None
    scheduled_at: ZonedTime
    created_position: Position
    log_id: UUID
    as_of: AsOfPosition = 0


Cursor = TypeVar("Cursor", OrderCursor, SliceCursor)


def encode_cursor(cursor: OrderCursor | SliceCursor) -> str:
    """The text of a cursor. It omits an `as_of` of 0: older processes do not know that field."""
    fields = msgspec.to_builtins(cursor)
    state = msgspec.json.encode(fields if cursor.as_of else fields[:-1])
    return base64.urlsafe_b64encode(state).rstrip(b"=").decode()


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
        raise parameter_error("cursor", "is not a cursor of this list", CURSOR_EXPECTED)
    if msgspec.structs.astuple(cursor)[: len(filters)] != filters:
        raise parameter_error("cursor", "belongs to other filters", CURSOR_EXPECTED)
    return cursor


def order_query(parameters: OrderParameters) -> OrderQuery:
    """The requested page of orders.

    Raises:
        BadRequest: the filters contradict each other, or the cursor does not belong to this list.
    """
    require_times_in_order(parameters, "created_from", "created_before")
    query = OrderQuery(
        limit=parameters.limit,
        order_queue_status=parameters.order_queue_status,
        instrument=parameters.instrument,
        order_id=_order_id_in(parameters),
        placed_by=parameters.placed_by,
        trace_id=parameters.trace_id,
        created_from=parameters.created_from,
        created_before=parameters.created_before,
        min_position=parameters.min_position or 0,
    )
    if parameters.cursor is None:
        return query
    cursor = decode_cursor(parameters.cursor, OrderCursor, _digest_of(query))
    return msgspec.structs.replace(
        query,
        before=cursor.before,
        log_id=cursor.log_id,
        min_position=max(query.min_position, cursor.as_of),
    )


def next_cursor_of(query: OrderQuery, page: QueuePage, *, may_be_older: bool) -> str | None:
    """The cursor of the page after this one of the query; None if there is none.

    With `may_be_older` a later read may see an older state, so the cursor has the position that the
    next page must reflect.
    """
    if page.next_before is None or page.log_id is None:
        return None
    as_of = page.as_of_position if may_be_older else 0
    return encode_cursor(OrderCursor(_digest_of(query), page.next_before, page.log_id, as_of))


def list_beyond_log(
    error: PositionBeyondLog, parameters: OrderParameters | SliceParameters
) -> BadRequest:
    """The error of a list whose position is beyond the end of the log: a parameter or a cursor."""
    field = "min_position" if error.after == parameters.min_position else "cursor"
    return beyond_log(error, field)


def _order_id_in(parameters: OrderParameters) -> UUID | None:
    """The id of the order with the requested key."""
    key, scope = parameters.order_unique_key, parameters.key_scope
    if key is None:
        if scope is not None:
            raise parameter_error(
                "key_scope", "is given without a key", "order_unique_key together with key_scope"
            )
        return None
    if scope not in {None, INTERNAL_SCOPE}:
        try:
            Caller.named(scope)
        except CallerUnnamable:
            raise parameter_error("key_scope", "is not a scope", _SCOPE_EXPECTED) from None
    return order_id_for(scope or INTERNAL_SCOPE, key)


def _digest_of(query: OrderQuery) -> str:
    filters = msgspec.structs.replace(query, limit=0, before=None, log_id=None, min_position=0)
    return blake2b(msgspec.json.encode(filters), digest_size=_DIGEST_BYTES).hexdigest()


def _on_behalf_query(parameters: OrderParameters) -> OwnOrderQuery:
    """The page that the gateway requests on behalf of a caller.

    Raises:
        BadRequest: callers do not have this filter, or the times are in the wrong order.
    """
    given = {k: v for k, v in msgspec.structs.asdict(parameters).items() if v is not None}
    for name in given:
        if name not in OwnOrderQuery.__struct_fields__:
            expected = f"one of {', '.join(OwnOrderQuery.__struct_fields__)}"
            raise parameter_error(name, "is not a filter of a caller's orders", expected)
    require_times_in_order(parameters, "created_from", "created_before")
    return OwnOrderQuery(**given)


def slice_query(parameters: SliceParameters) -> SliceQuery:
    """The requested page of slices.

    Raises:
        BadRequest: the times are in the wrong order, or the cursor does not belong to this list.
    """
    require_times_in_order(parameters, "scheduled_from", "scheduled_before")
    begin, end = parameters.scheduled_from, parameters.scheduled_before
    query = SliceQuery(
        scheduled_from=begin,
        scheduled_before=end,
        limit=parameters.limit,
        min_position=parameters.min_position or 0,
    )
    if parameters.cursor is None:
        return query
    cursor = decode_cursor(parameters.cursor, SliceCursor, begin, end)
    return msgspec.structs.replace(
        query,
        after=SliceCursorKey(cursor.scheduled_at, cursor.created_position),
        log_id=cursor.log_id,
        min_position=max(query.min_position, cursor.as_of),
    )


def next_slice_cursor_of(
    begin: datetime | None,
    end: datetime | None,
    page: QueueSlicePage | SliceWithOrderPage,
    *,
    may_be_older: bool,
) -> str | None:
    """The cursor of the page of slices after this one, between the same two times."""
    after = page.next_after
    if after is None or page.log_id is None:
        return None
    as_of = page.as_of_position if may_be_older else 0
    return encode_cursor(
        SliceCursor(begin, end, after.scheduled_at, after.created_position, page.log_id, as_of)
    )


_NOT_OLDER: Final = f"""
A list may be read on a replica of the database, so it may lack what was just written. To see a
write, send the `X-Pulse-Position` of its response as `min_position`: the page reflects the log at
least up to that position. The call waits up to {MAX_WAIT_SECONDS:g} s for that position. After that
the answer is 503, and `details.position` is the position that the list reflects. A `min_position`
beyond the end of the log is 400 `POSITION_BEYOND_LOG`. A page is never older than the page that
returned its cursor.
""".strip()


def list_routes(queries: InProcessOrders) -> list[HTTPRouteHandler]:
    """The routes of the lists over these queries."""

    @get(
        "/internal/orders",
        opt=needs("read"),
        summary="List orders, newest first",
        tags=["lists"],
        response_description="A page.",
    )
    async def list_orders(
        request: Request[Any, Any, Any], parameters: NamedDependency[OrderParameters]
    ) -> OrderPage:
        caller = caller_in(request.scope)
        if not caller.is_internal:
            own = await queries.own_orders(_on_behalf_query(parameters), caller)
            return OrderPage(own.orders, own.next_cursor, own.as_of_position)
        query = order_query(parameters)
        try:
            page = await queries.orders(query)
        except PositionBeyondLog as error:
            raise list_beyond_log(error, parameters) from None
        cursor = next_cursor_of(query, page, may_be_older=queries.pages_may_be_older)
        return OrderPage(page.orders, cursor, page.as_of_position)

    list_orders.fn.__doc__ = f"""
Orders by position of creation, read from the projection, which follows the log. `as_of_position` is
the position of the log that the page reflects.

Filters combine. `order_unique_key` finds the order with exactly this key, in the scope `key_scope`:
`internal`, or the name of a caller of the gateway. `placed_by` and `trace_id` are compared exactly
too. `created_from` is inclusive and `created_before` exclusive; both need an offset and are
compared with `created_at`. An order that was recorded more than
{MAX_RECORDING_DIFFERENCE.seconds} s before or after its `created_at` may be missing from a list
with either of them.

Send `next_cursor` as `cursor`, with the same filters, for the next page; null marks the last one.
Consecutive pages neither skip nor repeat an order. `order_queue_status` filters by the status at
the time of each page, so an order that changes its status between two pages may be on neither. A
cursor that is malformed, belongs to other filters, or is from before the log was restored to an
earlier point is 400.

**An empty page is not the end**: with any filter but `order_queue_status` and `instrument`, one
call examines at most {MAX_EXAMINED:,} orders, so a page may be short or empty and have a
`next_cursor`.

{_NOT_OLDER}
"""

    @get(
        "/internal/slices",
        opt=needs("read"),
        summary="List slices by time",
        tags=["lists"],
        response_description="A page.",
    )
    async def list_slices(parameters: NamedDependency[SliceParameters]) -> SlicePage:
        """Slices of all orders, read from the projection, each with its `state` as projected.

        `scheduled_from` is inclusive, `scheduled_before` exclusive; 400 if it is earlier than
        `scheduled_from`. Both need an offset. All their fraction digits are compared; times of
        slices have whole microseconds. `+` in a time may be sent unencoded. Send `next_cursor`
        as `cursor`, with the same filters, for the next page; null marks the last one. A slice
        that is added later, at a time before the cursor, is on no later page.

        `min_position` works as in `GET /internal/orders`.
        """
        try:
            page = await queries.slices(slice_query(parameters))
        except PositionBeyondLog as error:
            raise list_beyond_log(error, parameters) from None
        filters = parameters.scheduled_from, parameters.scheduled_before
        may_be_older = queries.pages_may_be_older
        cursor = next_slice_cursor_of(*filters, page, may_be_older=may_be_older)
        return SlicePage(page.slices, cursor)

    return [list_orders, list_slices]

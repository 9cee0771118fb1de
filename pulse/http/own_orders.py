"""The calls of the gateway that list a caller's own orders, and the events of one of them."""

from typing import Annotated, Any

import msgspec
from litestar import Request, get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from pulse.application.callers import Caller
from pulse.application.in_process import MAX_RECORDING_DIFFERENCE
from pulse.application.orders import Orders, OwnOrderQuery
from pulse.application.own_cursors import decode_own_cursor
from pulse.application.own_view import OwnHistory, OwnOrders, own_event, own_order
from pulse.domain.order_request import Instrument, OrderUniqueKey
from pulse.http.asgi import caller_in, trace_in
from pulse.http.auth import require_scope
from pulse.http.errors import CURSOR_EXPECTED
from pulse.http.parameters import ZonedTime, require_times_in_order
from pulse.http.responses import order_id_of
from pulse.projections.lists import MAX_EXAMINED, MAX_ORDERS_PER_PAGE
from pulse.projections.order_view import OrderQueueStatus


class OwnOrderParameters(msgspec.Struct, frozen=True):
    """The query parameters of a list of the caller's orders."""

    order_queue_status: OrderQueueStatus | None = None
    instrument: Instrument | None = None
    order_unique_key: OrderUniqueKey | None = None
    created_from: ZonedTime | None = None
    created_before: ZonedTime | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_ORDERS_PER_PAGE)] = 50
    cursor: Annotated[str, msgspec.Meta(description=CURSOR_EXPECTED)] | None = None


def own_order_query(parameters: OwnOrderParameters, caller: Caller) -> OwnOrderQuery:
    """The requested page.

    Raises:
        BadRequest: the times are in the wrong order.
        CursorRefused: the cursor belongs to another list, other filters or another caller.
    """
    require_times_in_order(parameters, "created_from", "created_before")
    query = OwnOrderQuery(**msgspec.structs.asdict(parameters))
    decode_own_cursor(query, caller)
    return query


def own_order_routes(orders: Orders, *, read_scope: str) -> list[HTTPRouteHandler]:
    """The routes over these use cases. The caller's token must grant the scope."""

    @get(
        "/api/orders",
        summary="List your orders, newest first",
        tags=["orders"],
        response_description="A page.",
    )
    async def list_own_orders(
        request: Request[Any, Any, Any], parameters: NamedDependency[OwnOrderParameters]
    ) -> OwnOrders:
        scope: Any = request.scope
        require_scope(scope, read_scope)
        caller = caller_in(scope)
        query = own_order_query(parameters, caller)
        page = await orders.own_orders(query, caller, trace_in(scope))
        return OwnOrders(tuple(map(own_order, page.orders)), page.next_cursor)

    list_own_orders.fn.__doc__ = f"""
The orders that this caller placed, and no others. The list follows the log: an order appears
shortly after its POST was answered.

Filters combine. `order_unique_key` finds the order with exactly this key. `created_from` is
inclusive and `created_before` exclusive; both need an offset and are compared with `created_at`. An
order that was recorded more than {MAX_RECORDING_DIFFERENCE.seconds} s before or after its
`created_at` may be missing from a list with either of them.

Send `next_cursor` as `cursor`, with the same filters, for the next page; null marks the last one.
Consecutive pages neither skip nor repeat an order. `order_queue_status` filters by the status at
the time of each page. A cursor of another list, of other filters or of another caller is 400.

**An empty page is not the end**: one call examines at most {MAX_EXAMINED:,} of the caller's orders,
so with a filter a page may be short or empty and have a `next_cursor`.
"""

    @get(
        "/api/orders/{order_id:str}/events",
        summary="Read the history of your order",
        tags=["orders"],
        response_description="The history.",
    )
    async def read_own_history(
        request: Request[Any, Any, Any], order_id: FromPath[str]
    ) -> OwnHistory:
        """Every event of the order, oldest first, with the fields that concern the order.

        An event never changes; new ones are only appended. `cancelled_by` is null unless the
        caller itself cancelled the order. An event that this version of Pulse cannot read is an
        `OtherEvent` without data. An unknown id, a malformed one and another caller's order are all
        404 `ORDER_NOT_FOUND`.
        """
        scope: Any = request.scope
        require_scope(scope, read_scope)
        caller = caller_in(scope)
        known_id = order_id_of(order_id)
        events = await orders.history(known_id, caller, trace_in(scope))
        return OwnHistory(known_id, [own_event(known_id, event, caller) for event in events])

    return [list_own_orders, read_own_history]

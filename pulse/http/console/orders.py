"""The list of orders, with its filters, and the box that finds one order."""

from typing import Annotated, NamedTuple
from uuid import UUID

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler

from pulse.application.callers import Caller
from pulse.application.in_process import InProcessOrders
from pulse.application.orders import OrderNotFound
from pulse.domain import INTERNAL_SCOPE, order_id_for
from pulse.http.api.lists import next_cursor_of
from pulse.http.asgi import caller_in
from pulse.http.console.order_filters import (
    FIELDS,
    ORDERS_PATH,
    Filters,
    orders_path,
    read_filters,
)
from pulse.http.console.own_writes import read_list
from pulse.http.console.pages import AnyRequest, page, prepare_page, redirect
from pulse.http.responses import canonical_uuid
from pulse.http.rights import needs
from pulse.projections.lists import MAX_EXAMINED, OrderPage
from pulse.projections.order_view import OrderView

MAX_FIND_CHARACTERS = 1024


class ActiveFilter(NamedTuple):
    """A filter in force, and the list without it."""

    label: str
    value: str
    path_without: str


class OrderRow(NamedTuple):
    """An order in the list, with the lists of its instrument and its caller."""

    order: OrderView
    path: str
    instrument_path: str
    caller_path: str
    settled_slices: int


class Listing(NamedTuple):
    """A page of the list as the template shows it.

    `examined` is set if the page is short because only this many orders were examined: older ones
    may match.
    """

    rows: list[OrderRow]
    active: list[ActiveFilter]
    next_path: str | None
    examined: int | None
    is_first: bool
    asks_for_scope: bool


class FindParameters(msgspec.Struct, frozen=True):
    """The order's id or its unique key."""

    q: Annotated[str, msgspec.Meta(max_length=MAX_FIND_CHARACTERS)] = ""


def listing_of(filters: Filters, found: OrderPage | None, cursor: str | None) -> Listing:
    """The page of the list. `cursor` is that of the next page; `found` is None after a fault."""
    labels = {field.name: field.label for field in FIELDS}
    active = [
        ActiveFilter(labels[name], value, filters.path(name, *_depending_on(name)))
        for name, value in filters.values.items()
    ]
    if found is None or filters.query is None:
        return Listing([], active, None, None, is_first=True, asks_for_scope=False)
    is_short = cursor is not None and len(found.orders) < filters.query.limit
    return Listing(
        rows=[_row(order) for order in found.orders],
        active=active,
        next_path=None if cursor is None else filters.path(cursor=cursor),
        examined=MAX_EXAMINED if is_short else None,
        is_first=filters.query.before is None,
        asks_for_scope="order_unique_key" in filters.values and "key_scope" not in filters.values,
    )


def _depending_on(name: str) -> tuple[str, ...]:
    """The filters that are invalid without this one."""
    return ("key_scope",) if name == "order_unique_key" else ()


def _row(order: OrderView) -> OrderRow:
    return OrderRow(
        order=order,
        path=f"{ORDERS_PATH}/{order.order_id}",
        instrument_path=orders_path(instrument=order.instrument),
        caller_path=orders_path(placed_by=order.placed_by),
        settled_slices=sum(s.state != "SCHEDULED" for s in order.slices),
    )


def orders_routes(orders: InProcessOrders) -> list[HTTPRouteHandler]:
    """The routes of the list and of the box that finds an order."""

    @get("/orders", opt=needs("read"), before_request=prepare_page)
    async def show_orders(request: AnyRequest) -> Response[str]:
        """The list. The handler reads the query itself, so that a fault is shown at its field."""
        filters = read_filters(request.scope["query_string"])
        found = cursor = None
        if filters.query is not None:
            found = await read_list(request.scope, filters.query, orders.orders)
            may_be_older = orders.pages_may_be_older
            cursor = next_cursor_of(filters.query, found, may_be_older=may_be_older)
        return page(
            request,
            "orders.html",
            title="Orders",
            active="orders",
            status=200 if filters.fault is None else 400,
            position=None if found is None else found.as_of_position,
            filters=filters,
            fields=FIELDS,
            listing=listing_of(filters, found, cursor),
            orders_path=ORDERS_PATH,
        )

    @get("/find", opt=needs("read"))
    async def find_order(
        request: AnyRequest, parameters: NamedDependency[FindParameters]
    ) -> Response[bytes]:
        """Open the order with this id or internal key; for an unknown key, the list filtered by it.

        An unknown id opens its order page, which is 404.
        """
        text = parameters.q.strip()
        given_id = canonical_uuid(text)
        caller = caller_in(request.scope)
        candidates = [order_id_for(INTERNAL_SCOPE, text)] if text else []
        for order_id in [*([given_id] if given_id else []), *candidates]:
            if await _exists(orders, order_id, caller):
                return redirect(f"{ORDERS_PATH}/{order_id}")
        if given_id is not None:
            return redirect(f"{ORDERS_PATH}/{given_id}")
        return redirect(orders_path(order_unique_key=text) if text else ORDERS_PATH)

    return [show_orders, find_order]


async def _exists(orders: InProcessOrders, order_id: UUID, caller: Caller) -> bool:
    try:
        await orders.history(order_id, caller)
    except OrderNotFound:
        return False
    return True

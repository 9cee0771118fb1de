"""Lists across orders: orders, slices, and the log."""

from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler

from pulse.application import Queries
from pulse.eventstore import PositionBeyondLog
from pulse.http.api.cursors import after_page_of_orders, after_page_of_slices
from pulse.http.api.queries import (
    EVENT_PARAMETERS,
    ORDER_PARAMETERS,
    SLICE_PARAMETERS,
    event_query,
    order_query,
    slice_query,
)
from pulse.http.errors import JSON, BadRequest
from pulse.http.parameters import DECLARED

AnyRequest = Request[Any, Any, Any]


def list_routes(queries: Queries) -> list[HTTPRouteHandler]:
    """The routes of the lists, over these queries."""

    @get("/internal/orders", opt={DECLARED: ORDER_PARAMETERS})
    async def list_orders(request: AnyRequest) -> Response[bytes]:
        query = order_query(request.scope["query_string"])
        page = await queries.orders(query)
        return _json(
            orders=page.orders,
            next_cursor=after_page_of_orders(query, page.next_before),
            as_of_position=page.as_of_position,
        )

    @get("/internal/slices", opt={DECLARED: SLICE_PARAMETERS})
    async def list_slices(request: AnyRequest) -> Response[bytes]:
        query = slice_query(request.scope["query_string"])
        page = await queries.slices(query)
        return _json(slices=page.slices, next_cursor=after_page_of_slices(query, page.next_after))

    @get("/internal/events", opt={DECLARED: EVENT_PARAMETERS})
    async def list_events(request: AnyRequest) -> Response[bytes]:
        query = event_query(request.scope["query_string"])
        try:
            page = await queries.events(query)
        except PositionBeyondLog as error:
            raise beyond_log(error) from None
        return _json(events=page.events, next_after=page.next_after)

    return [list_orders, list_slices, list_events]


def beyond_log(error: PositionBeyondLog) -> BadRequest:
    """The refusal of a position that the log has not reached."""
    return BadRequest(
        str(error),
        code="POSITION_BEYOND_LOG",
        field="after",
        expected=f"a position from 0 to {error.end}",
        after=error.after,
        end=error.end,
    )


def _json(**answer: object) -> Response[bytes]:
    return Response(msgspec.json.encode(answer), media_type=JSON)

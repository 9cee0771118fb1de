"""The routes for orders besides the hot paths: batch, preview, cancel, and an order's events."""

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from pulse.application.event_view import EventView
from pulse.application.in_process import InProcessOrders
from pulse.application.orders import OrderPreview, Placed
from pulse.domain import OrderSpec
from pulse.http.asgi import POSITION_KEY, Scope, caller_in, trace_in
from pulse.http.bodies import decode_batch, read_order, read_preview_request, receive_json
from pulse.http.cancellation import cancel_route
from pulse.http.errors import ErrorResponse, answer_for
from pulse.http.limits import MAX_BATCH_BYTES, MAX_ORDER_BYTES
from pulse.http.responses import PlacedOrder, order_id_of
from pulse.http.rights import needs


class BatchResult(msgspec.Struct, frozen=True):
    """The result of one order of a batch: the status and body of the answer to its own POST."""

    status: Annotated[int, msgspec.Meta(ge=200, le=503)]
    body: Annotated[
        Any,
        msgspec.Meta(
            extra_json_schema={
                "anyOf": [
                    {"$ref": "#/components/schemas/PlacedOrder"},
                    {"$ref": "#/components/schemas/ErrorResponse"},
                ]
            }
        ),
    ]


class BatchResults(msgspec.Struct, frozen=True):
    """A result for each order, in the order of the request."""

    results: list[BatchResult]


class History(msgspec.Struct, frozen=True):
    """Every event of one order, oldest first."""

    order_id: UUID
    events: Annotated[Sequence[EventView], msgspec.Meta(min_length=1)]


def order_routes(orders: InProcessOrders) -> list[HTTPRouteHandler]:
    """The routes over these use cases."""

    @post(
        "/internal/orders/batch",
        status_code=200,
        opt=needs("write"),
        summary="Place up to 1,000 orders",
        tags=["orders"],
        response_description="Each order's own status and answer.",
    )
    async def place_orders(request: Request[Any, Any, Any]) -> BatchResults:
        """Each order is accepted or refused on its own, as if it had been sent in its own POST.

        `results` holds the status and body of each, in the order of the request. The whole call is
        400 if the body is not an array of 1 to 1,000 elements. Retry after a timeout or 503 with
        the same body: orders that were accepted before return 200 with the same id. A result with
        status 503 means: retry that order with the same key.
        """
        scope: Any = request.scope
        batch = decode_batch(await receive_json(scope, request.receive, MAX_BATCH_BYTES))
        return BatchResults(await _place_each(orders, batch, scope))

    @get(
        "/internal/orders/{order_id:str}/events",
        opt=needs("read"),
        summary="Read an order's history",
        tags=["events"],
        response_description="The history.",
    )
    async def read_history(request: Request[Any, Any, Any], order_id: FromPath[str]) -> History:
        """Each event has a `type` and the `data` of that type, as they are stored.

        The log is append-only: an event never changes. Events that this
        version of Pulse cannot read are included. An unknown id and a malformed one are both 404
        `ORDER_NOT_FOUND`.
        """
        known_id = order_id_of(order_id)
        return History(known_id, await orders.history(known_id, caller_in(request.scope)))

    @post(
        "/internal/orders/preview",
        status_code=200,
        opt=needs("read"),
        summary="Preview an order's schedule",
        tags=["orders"],
        response_description="The schedule.",
    )
    async def preview_order(request: Request[Any, Any, Any]) -> OrderPreview:
        """The slices that the order would get if it were placed now. Nothing is stored.

        The body is that of an order, with the same rules and errors, and optionally `split_seed`.
        The same seed gives the same quantities and the same offsets from the start of the window.
        Without a seed, a random one is used and returned. A placed order gets another random seed,
        which no caller can choose, so its schedule differs unless `randomize` is false. The key is
        not looked up: a taken key is no error. While this process refuses orders because its clock
        is off, a preview is 503 too.
        """
        scope: Any = request.scope
        body = await receive_json(scope, request.receive, MAX_ORDER_BYTES)
        wanted = read_preview_request(body)
        seed = None if wanted.split_seed is msgspec.UNSET else int(wanted.split_seed, 16)
        return orders.preview(wanted.spec, seed, caller_in(scope), trace_in(scope))

    cancel_order = cancel_route("/internal/orders", orders, positions=True)
    return [place_orders, preview_order, cancel_order, read_history]


async def _place_each(
    orders: InProcessOrders, batch: Sequence[bytes], scope: Scope
) -> list[BatchResult]:
    """Place every order of a batch, each with the result that its own POST would have had."""
    read = [_read(body) for body in batch]
    specs = [one for one in read if isinstance(one, OrderSpec)]
    results = await orders.place_each(specs, caller_in(scope), trace_in(scope))
    positions = [one.position or 0 for one in results if isinstance(one, Placed)]
    if positions:
        scope[POSITION_KEY] = max(positions)
    placed = iter(results)
    return [_result(next(placed) if isinstance(one, OrderSpec) else one) for one in read]


def _read(body: bytes) -> OrderSpec | Exception:
    try:
        return read_order(body)
    except Exception as error:  # noqa: BLE001 - no order of a batch may refuse the others
        return error


def _result(placed: Placed | Exception) -> BatchResult:
    if isinstance(placed, Exception):
        status, error = answer_for(placed)
        return BatchResult(status, ErrorResponse(error))
    status = 201 if placed.created else 200
    return BatchResult(status, PlacedOrder(placed.order_id, placed.order_unique_key))

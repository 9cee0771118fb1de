"""Placing orders, one or a batch, and reading one with its history."""

from collections.abc import Sequence
from typing import Any, Final

from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.types import Scope

from pulse.application import Orders, OrdersAndQueries, Placed
from pulse.domain import OrderSpec
from pulse.http.answers import PlacedBody, json_answer, known_form
from pulse.http.asgi import Receive, caller_in, trace_in
from pulse.http.bodies import decode_batch, read_order, require_json, require_unencoded
from pulse.http.busiest import Place, Read, order_body
from pulse.http.errors import answer_for
from pulse.http.limits import MAX_BATCH_BYTES

ORDERS_PATH: Final = "/internal/orders"

AnyRequest = Request[Any, Any, Any]


def place_one(orders: Orders) -> Place:
    """What answers a POST of one order."""

    async def place(scope: Any, receive: Receive) -> tuple[int, PlacedBody]:  # noqa: ANN401
        requested = read_order(await order_body(scope, receive))
        return _answer(await orders.place(requested, caller_in(scope), trace_in(scope)))

    return place


def read_one(orders: Orders) -> Read:
    """What answers a GET of one order."""

    async def read(scope: Any, order_id: str) -> object:  # noqa: ANN401
        return await orders.order(known_form(order_id), caller_in(scope))

    return read


def order_routes(orders: OrdersAndQueries) -> list[HTTPRouteHandler]:
    """The routes about orders, over these use cases."""
    place, read = place_one(orders), read_one(orders)

    @post(ORDERS_PATH)
    async def place_order(request: AnyRequest) -> Response[bytes]:
        status, answer = await place(request.scope, request.receive)  # type: ignore[arg-type]
        return json_answer(answer, status)

    @post("/internal/orders/batch", request_max_body_size=MAX_BATCH_BYTES)
    async def place_orders(request: AnyRequest) -> Response[bytes]:
        require_json(request.headers.get("content-type", ""))
        for encoding in request.headers.getall("content-encoding", []):
            require_unencoded(encoding.encode("latin-1"))
        batch = decode_batch(await request.body())
        results = await _place_each(orders, batch, request.scope)
        return json_answer({"results": results}, 200)

    @get("/internal/orders/{order_id:str}")
    async def read_order(request: AnyRequest, order_id: FromPath[str]) -> Response[bytes]:
        return json_answer(await read(request.scope, order_id), 200)  # type: ignore[arg-type]

    @get("/internal/orders/{order_id:str}/events")
    async def read_history(order_id: FromPath[str]) -> Response[bytes]:
        events = await orders.history(known_form(order_id))
        return json_answer({"order_id": events[0].order_id, "events": events}, 200)

    return [place_order, place_orders, read_order, read_history]


def _answer(placed: Placed) -> tuple[int, PlacedBody]:
    status = 201 if placed.created else 200
    return status, PlacedBody(placed.order_id, placed.order_unique_key)


async def _place_each(
    orders: OrdersAndQueries, batch: Sequence[bytes], scope: Scope
) -> list[dict[str, Any]]:
    """Every order of a batch, each answered as its own POST would have been."""
    read = [_read(body) for body in batch]
    requested = [one for one in read if isinstance(one, OrderSpec)]
    placed = iter(await orders.place_each(requested, caller_in(scope), trace_in(scope)))
    return [_result(next(placed) if isinstance(one, OrderSpec) else one) for one in read]


def _read(body: bytes) -> OrderSpec | Exception:
    try:
        return read_order(body)
    except Exception as error:  # noqa: BLE001 - each order of a batch stands for itself
        return error


def _result(placed: Placed | Exception) -> dict[str, Any]:
    if isinstance(placed, Exception):
        status, fault = answer_for(placed)
        return {"status": status, "body": {"error": fault}}
    status, answer = _answer(placed)
    return {"status": status, "body": answer}

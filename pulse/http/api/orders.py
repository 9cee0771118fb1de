"""Placing orders, one or a batch, and reading one with its history."""

import asyncio
from typing import Any, Final

from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.types import Scope

from pulse.application import Orders, OrdersAndQueries
from pulse.domain import parse_order_request
from pulse.http.answers import PlacedBody, json_answer, known_form
from pulse.http.bodies import decode_batch, decode_order, require_json
from pulse.http.callers import caller_in
from pulse.http.errors import answer_for
from pulse.http.limits import MAX_BATCH_BYTES
from pulse.http.placing import Place, order_body
from pulse.http.root import Receive
from pulse.http.tracing import trace_in

ORDERS_PATH: Final = "/internal/orders"

AnyRequest = Request[Any, Any, Any]


def place_one(orders: Orders) -> Place:
    """What answers a POST of one order."""

    async def place(scope: Any, receive: Receive) -> tuple[int, PlacedBody]:  # noqa: ANN401
        return await _place(orders, await order_body(scope, receive), scope)

    return place


def order_routes(orders: OrdersAndQueries) -> list[HTTPRouteHandler]:
    """The routes about orders, over these use cases."""
    place = place_one(orders)

    @post(ORDERS_PATH)
    async def place_order(request: AnyRequest) -> Response[bytes]:
        status, answer = await place(request.scope, request.receive)  # type: ignore[arg-type]
        return json_answer(answer, status)

    @post("/internal/orders/batch", request_max_body_size=MAX_BATCH_BYTES)
    async def place_orders(request: AnyRequest) -> Response[bytes]:
        require_json(request.headers.get("content-type", ""))
        batch = decode_batch(await request.body())
        results = await asyncio.gather(*(_result(orders, body, request.scope) for body in batch))
        return json_answer({"results": results}, 200)

    @get("/internal/orders/{order_id:str}")
    async def read_order(request: AnyRequest, order_id: FromPath[str]) -> Response[bytes]:
        order = await orders.order(known_form(order_id), caller_in(request.scope))
        return json_answer(order, 200)

    @get("/internal/orders/{order_id:str}/events")
    async def read_history(order_id: FromPath[str]) -> Response[bytes]:
        events = await orders.history(known_form(order_id))
        return json_answer({"order_id": events[0].order_id, "events": events}, 200)

    return [place_order, place_orders, read_order, read_history]


async def _place(orders: Orders, body: bytes, scope: Scope) -> tuple[int, PlacedBody]:
    requested = parse_order_request(decode_order(body))
    placed = await orders.place(requested, caller_in(scope), trace_in(scope))
    return 201 if placed.created else 200, PlacedBody(placed.order_id, placed.order_unique_key)


async def _result(orders: Orders, body: bytes, scope: Scope) -> dict[str, Any]:
    """One order of a batch, answered as its own POST would have been."""
    try:
        status, answer = await _place(orders, body, scope)
    except Exception as error:  # noqa: BLE001 - each order of a batch stands for itself
        status, fault = answer_for(error)
        return {"status": status, "body": {"error": fault}}
    return {"status": status, "body": answer}

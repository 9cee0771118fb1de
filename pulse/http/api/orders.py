"""Placing orders, one or a batch, and reading one with its history."""

import asyncio
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from pulse.application import Caller, OrderNotFound, Orders
from pulse.domain import Trace, parse_order_request
from pulse.http.bodies import decode_batch, decode_order, require_json
from pulse.http.errors import JSON, answer_for
from pulse.http.limits import MAX_BATCH_BYTES, MAX_ORDER_BYTES
from pulse.http.tracing import trace_in

_MOST_ECHOED_CHARACTERS = 72
_ANYONE = Caller()

AnyRequest = Request[Any, Any, Any]


class PlacedBody(msgspec.Struct, frozen=True):
    """The answer to an order that stands."""

    order_id: UUID
    order_unique_key: str


def order_routes(orders: Orders) -> list[HTTPRouteHandler]:
    """The routes about orders, over these use cases."""

    @post("/internal/orders", request_max_body_size=MAX_ORDER_BYTES)
    async def place_order(request: AnyRequest) -> Response[bytes]:
        require_json(request.headers.get("content-type", ""))
        body = await request.body()
        status, answer = await _place(orders, body, trace_in(request.scope))
        return _json(answer, status)

    @post("/internal/orders/batch", request_max_body_size=MAX_BATCH_BYTES)
    async def place_orders(request: AnyRequest) -> Response[bytes]:
        require_json(request.headers.get("content-type", ""))
        batch = decode_batch(await request.body())
        trace = trace_in(request.scope)
        results = await asyncio.gather(*(_result(orders, body, trace) for body in batch))
        return _json({"results": results}, 200)

    @get("/internal/orders/{order_id:str}")
    async def read_order(order_id: FromPath[str]) -> Response[bytes]:
        return _json(await orders.order(_known_form(order_id)), 200)

    @get("/internal/orders/{order_id:str}/events")
    async def read_history(order_id: FromPath[str]) -> Response[bytes]:
        events = await orders.history(_known_form(order_id))
        return _json({"order_id": events[0].order_id, "events": events}, 200)

    return [place_order, place_orders, read_order, read_history]


async def _place(orders: Orders, body: bytes, trace: Trace) -> tuple[int, PlacedBody]:
    requested = parse_order_request(decode_order(body))
    placed = await orders.place(requested, _ANYONE, trace)
    return 201 if placed.created else 200, PlacedBody(placed.order_id, placed.order_unique_key)


async def _result(orders: Orders, body: bytes, trace: Trace) -> dict[str, Any]:
    """One order of a batch, answered as its own POST would have been."""
    try:
        status, answer = await _place(orders, body, trace)
    except Exception as error:  # noqa: BLE001 - each order of a batch stands for itself
        status, fault = answer_for(error)
        return {"status": status, "body": {"error": fault}}
    return {"status": status, "body": answer}


def _known_form(order_id: str) -> UUID:
    """An id in the form Pulse gives out; anything else is the id of no order.

    `UUID` alone would also take braces, `urn:`, underscores, and dashes in any place.
    """
    try:
        known = UUID(order_id)
    except ValueError:
        known = None
    if known is None or str(known) != order_id.lower():
        raise OrderNotFound(order_id[:_MOST_ECHOED_CHARACTERS])
    return known


def _json(answer: object, status: int) -> Response[bytes]:
    return Response(msgspec.json.encode(answer), status_code=status, media_type=JSON)

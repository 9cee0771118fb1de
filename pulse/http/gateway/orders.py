"""What the public may ask: health, hello, to place an order and to read an own one."""

from typing import Any, Final

from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from pulse.application import Orders
from pulse.http.answers import PlacedBody, json_answer, known_form
from pulse.http.asgi import Receive, caller_in, trace_in
from pulse.http.auth import require_scope
from pulse.http.bodies import read_order
from pulse.http.busiest import Place, Read, order_body

ORDERS_PATH: Final = "/api/orders"
HELLO: Final = "Hello from GAPI"
ORDERS_WRITE: Final = "orders:write"
ORDERS_READ: Final = "orders:read"

AnyRequest = Request[Any, Any, Any]


def place_one(orders: Orders) -> Place:
    """What answers a POST of one order."""

    async def place(scope: Any, receive: Receive) -> tuple[int, PlacedBody]:  # noqa: ANN401
        require_scope(scope, ORDERS_WRITE)
        requested = read_order(await order_body(scope, receive))
        placed = await orders.place(requested, caller_in(scope), trace_in(scope))
        return 202, PlacedBody(placed.order_id, placed.order_unique_key)

    return place


def read_one(orders: Orders) -> Read:
    """What answers a GET of one order."""

    async def read(scope: Any, order_id: str) -> object:  # noqa: ANN401
        require_scope(scope, ORDERS_READ)
        return await orders.order(known_form(order_id), caller_in(scope), trace_in(scope))

    return read


def gateway_routes(orders: Orders) -> list[HTTPRouteHandler]:
    """The routes of the gateway, over these use cases."""
    place, read = place_one(orders), read_one(orders)

    @get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @get("/api/hello")
    async def hello() -> dict[str, str]:
        return {"message": HELLO}

    @post(ORDERS_PATH)
    async def place_order(request: AnyRequest) -> Response[bytes]:
        status, answer = await place(request.scope, request.receive)  # type: ignore[arg-type]
        return json_answer(answer, status)

    @get("/api/orders/{order_id:str}")
    async def read_order(request: AnyRequest, order_id: FromPath[str]) -> Response[bytes]:
        return json_answer(await read(request.scope, order_id), 200)  # type: ignore[arg-type]

    return [health, hello, place_order, read_order]

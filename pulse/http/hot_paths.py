"""The two hot paths, placing one order and reading one, bypass Litestar.

Litestar's routing, request and response objects cost twice as much as all of Pulse's own processing
before an order is stored (docs/explanation/performance.md). The same two calls are also Litestar
handlers: for other spellings of their paths, for other methods, and for the OpenAPI document.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, get_type_hints

import msgspec
from litestar import HttpMethod, Request, Response, get, post, route
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from pulse.application.orders import Orders
from pulse.http.asgi import (
    ORDER_ID_KEY,
    POSITION_KEY,
    ASGIApp,
    Receive,
    Scope,
    Send,
    caller_in,
    trace_in,
)
from pulse.http.bodies import read_order, receive_json
from pulse.http.errors import JSON
from pulse.http.limits import MAX_ORDER_BYTES
from pulse.http.responses import PlacedOrder, order_id_of, whole_order
from pulse.http.rights import needs
from pulse.projections.order_view import OrderView

_CONTENT_TYPE: Final = (b"content-type", JSON.encode())
_OK: Final = 200
_CREATED: Final = 201
_ORDER_ID: Final = re.compile(r"[0-9A-Fa-f-]{36}")

AnyRequest = Request[Any, Any, Any]
Authorize = Callable[[Mapping[str, object]], None]
"""Takes the scope of a request. Raises Forbidden if the caller may not make the request."""


class HotPaths:
    """POST to `path` places an order, GET of an id below it reads one.

    `authorize_place` and `authorize_read` are called before anything else. The status of a placed
    order is `placed_status`, by default 201 for a new order and 200 for one that existed already.
    `view` converts an order into its answer. With `positions` the answer to a POST has the position
    of the order's creation in the log.
    """

    def __init__(  # noqa: PLR0913 - what differs between the API and the gateway
        self,
        path: str,
        orders: Orders,
        *,
        authorize_place: Authorize,
        authorize_read: Authorize,
        placed_status: int | None = None,
        view: Callable[[OrderView], Any] = whole_order,
        positions: bool = False,
    ) -> None:
        self._view = view
        self._positions = positions
        self._path = path
        self._below = f"{path}/"
        self._orders = orders
        self._placed_status = placed_status
        self._authorize_place = authorize_place
        self._authorize_read = authorize_read

    async def _place(self, scope: Any, receive: Receive) -> tuple[int, PlacedOrder]:  # noqa: ANN401
        self._authorize_place(scope)
        spec = read_order(await receive_json(scope, receive, MAX_ORDER_BYTES))
        placed = await self._orders.place(spec, caller_in(scope), trace_in(scope))
        scope[ORDER_ID_KEY] = placed.order_id
        if self._positions:
            scope[POSITION_KEY] = placed.position
        status = self._placed_status or (_CREATED if placed.created else _OK)
        return status, PlacedOrder(placed.order_id, placed.order_unique_key)

    async def read(self, scope: Any, order_id: str) -> Any:  # noqa: ANN401
        """The answer to the request with this scope for the order with this id."""
        self._authorize_read(scope)
        known_id = order_id_of(order_id)
        return self._view(await self._orders.order(known_id, caller_in(scope), trace_in(scope)))

    def wrap(self, framework: ASGIApp) -> ASGIApp:
        """An application that handles the two calls itself, and passes everything else on.

        It does not handle exceptions: the application that wraps it does.
        """

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            path, method = scope["path"], scope["method"]
            answer: object
            if scope["query_string"]:  # a read as of the past, or an invalid query
                await framework(scope, receive, send)
                return
            if method == "POST" and path == self._path:
                status, answer = await self._place(scope, receive)
            elif method == "GET" and (order_id := self._order_id_in(path)):
                status, answer = _OK, await self.read(scope, order_id)
            else:
                await framework(scope, receive, send)
                return
            body = msgspec.json.encode(answer)
            headers = [_CONTENT_TYPE, (b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body, "more_body": False})

        return app

    def _order_id_in(self, path: str) -> str | None:
        below = path.removeprefix(self._below)
        return below if below != path and _ORDER_ID.fullmatch(below) else None

    def routes(self) -> list[HTTPRouteHandler]:
        """The same two calls as Litestar handlers."""
        return [self.place_route(), self.read_route()]

    def place_route(self) -> HTTPRouteHandler:
        """Placing an order, as a Litestar handler."""

        @post(
            self._path,
            status_code=self._placed_status or _CREATED,
            opt=needs("write"),
            summary="Place an order",
            tags=["orders"],
            response_description="The order was accepted.",
        )
        async def place_order(request: AnyRequest) -> Response[PlacedOrder]:
            """The order is stored before the response is sent; it is split in the background.

            `order_unique_key` is the idempotency key. The same request again returns the same
            order, in whatever state it is; the same key with other data is 409. After a timeout, a
            lost connection, 429 or 503, retry with the same key: that never makes a second order.
            Read the order to follow `order_queue_status`.
            """
            status, answer = await self._place(request.scope, request.receive)
            return Response(answer, status_code=status)

        return place_order

    def read_route(self) -> HTTPRouteHandler:
        """Reading an order, as a Litestar handler."""

        async def read_order(request: AnyRequest, order_id: FromPath[str]) -> Any:  # noqa: ANN401
            """Poll it until `order_queue_status` is final: COMPLETED, FAILED or CANCELLED.

            The status describes splitting. `quantities` and the `state` of each slice describe
            releases; they are final once nothing is `remaining`.

            The order is read from the log itself: once its POST was answered, every process finds
            it. An unknown id and a malformed one are both 404 `ORDER_NOT_FOUND`; so is another
            caller's order at the gateway.
            """
            return await self.read(request.scope, order_id)

        read_order.__annotations__["return"] = get_type_hints(self._view)["return"]
        read = get(
            f"{self._path}/{{order_id:str}}",
            opt=needs("read"),
            summary="Read an order",
            tags=["orders"],
            response_description="The order with its slices.",
        )
        return read(read_order)


def options_route(path: str) -> HTTPRouteHandler:
    """OPTIONS of a path that has both GET and POST.

    Litestar would list the methods of only one of its two handlers.
    """

    @route(path, http_method=HttpMethod.OPTIONS, status_code=204)
    async def options_of_path() -> Response[None]:
        return Response(None, headers={"allow": "GET, HEAD, OPTIONS, POST"})

    return options_of_path

"""The gateway as an application at `/`: the hot paths, and Litestar behind them."""

from functools import partial
from typing import cast

from litestar import Litestar, get

from pulse.application.orders import Orders
from pulse.application.own_view import own_order
from pulse.http.asgi import ASGIApp
from pulse.http.auth import require_scope
from pulse.http.cancellation import cancel_route
from pulse.http.errors import handle_error
from pulse.http.exchange import allow_head
from pulse.http.gateway.document import HELLO, ORDERS_READ, ORDERS_WRITE, document_of_gateway
from pulse.http.hot_paths import HotPaths, options_route
from pulse.http.openapi.page import document_routes
from pulse.http.own_orders import own_order_routes
from pulse.http.parameters import DEPENDENCIES, read_parameters
from pulse.http.responses import Health, Hello
from pulse.http.routes import RoutedApp


def create_gateway(orders: Orders) -> RoutedApp:
    """The gateway over these use cases. Calls about orders fail without the auth middleware."""
    hot_paths = HotPaths(
        "/api/orders",
        orders,
        authorize_place=partial(require_scope, wanted=ORDERS_WRITE),
        authorize_read=partial(require_scope, wanted=ORDERS_READ),
        placed_status=202,
        view=own_order,
    )
    cancel_order = cancel_route("/api/orders", orders, write_scope=ORDERS_WRITE, view=own_order)
    lists = own_order_routes(orders, read_scope=ORDERS_READ)
    handlers = [read_health, say_hello, *hot_paths.routes(), cancel_order, *lists]
    framework = Litestar(
        route_handlers=[
            options_route("/api/orders"),
            *handlers,
            *document_routes(lambda: document_of_gateway(handlers)),
        ],
        before_request=read_parameters,
        dependencies=DEPENDENCIES,
        exception_handlers={Exception: handle_error},
        before_send=[allow_head],
        openapi_config=None,
        logging_config=None,
    )
    return RoutedApp(hot_paths.wrap(cast("ASGIApp", framework)), framework)


@get(
    "/health",
    summary="Whether the process is alive",
    tags=["health"],
    response_description="The process is alive.",
)
async def read_health() -> Health:
    """A liveness probe: 200 as long as the process serves requests.

    It calls neither Pulse nor the issuer of tokens, needs no token and is exempt from every limit.
    """
    return Health("ok")


@get("/api/hello", summary="Say hello", tags=["health"], response_description="A greeting.")
async def say_hello() -> Hello:
    """Shows that the gateway is reachable; it needs no token."""
    return Hello(HELLO)

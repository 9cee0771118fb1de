"""The internal API as an application at `/`: the hot paths, and Litestar behind them."""

from typing import cast

from litestar import HttpMethod, Litestar, Response, route

from pulse.application.event_feed import EventFeed
from pulse.application.halts import ReleaseHalts
from pulse.application.in_process import InProcessOrders
from pulse.application.readiness import Readiness
from pulse.http.api.document import document_of_api
from pulse.http.api.event_stream import stream_routes
from pulse.http.api.halts import halt_routes
from pulse.http.api.health import health_routes
from pulse.http.api.lists import list_routes
from pulse.http.api.orders import order_routes
from pulse.http.asgi import ASGIApp
from pulse.http.errors import handle_error
from pulse.http.exchange import allow_head
from pulse.http.hot_paths import HotPaths
from pulse.http.openapi.page import explaining_routes
from pulse.http.parameters import DEPENDENCIES, read_parameters


def create_api(
    orders: InProcessOrders, halts: ReleaseHalts, feed: EventFeed, readiness: Readiness
) -> ASGIApp:
    """The API over these use cases. Calls about orders fail without the auth middleware."""
    hot_paths = HotPaths("/internal/orders", orders)
    handlers = [
        *health_routes(readiness),
        *hot_paths.routes(),
        *order_routes(orders),
        *list_routes(orders),
        *stream_routes(feed),
        *halt_routes(halts),
    ]
    framework = Litestar(
        route_handlers=[
            _options_of_orders,
            _options_of_halts,
            *handlers,
            *explaining_routes(lambda: document_of_api(handlers)),
        ],
        before_request=read_parameters,
        dependencies=DEPENDENCIES,
        exception_handlers={Exception: handle_error},
        before_send=[allow_head],
        openapi_config=None,
        logging_config=None,
    )
    return hot_paths.wrap(cast("ASGIApp", framework))


@route("/internal/orders", http_method=HttpMethod.OPTIONS, status_code=204)
async def _options_of_orders() -> Response[None]:
    """Litestar would list the methods of only one of the two handlers of this path."""
    return Response(None, headers={"allow": "GET, HEAD, OPTIONS, POST"})


@route("/internal/halts", http_method=HttpMethod.OPTIONS, status_code=204)
async def _options_of_halts() -> Response[None]:
    """As for orders."""
    return Response(None, headers={"allow": "GET, HEAD, OPTIONS, POST"})

"""The internal API as an application at `/`: the hot paths, and Litestar behind them."""

from functools import partial
from typing import cast

import msgspec
from litestar import Litestar

from pulse.application.event_feed import EventFeed
from pulse.application.halts import ReleaseHalts
from pulse.application.in_process import InProcessOrders
from pulse.application.past import Past
from pulse.application.readiness import Readiness
from pulse.evidence.tree import SealedLog
from pulse.http.api.document import document_of_api
from pulse.http.api.event_stream import stream_routes
from pulse.http.api.events import event_routes
from pulse.http.api.halts import halt_routes
from pulse.http.api.health import health_routes
from pulse.http.api.lists import list_routes
from pulse.http.api.orders import order_routes
from pulse.http.api.past import past_routes
from pulse.http.api.seal import seal_routes
from pulse.http.asgi import ASGIApp
from pulse.http.errors import handle_error
from pulse.http.exchange import allow_head
from pulse.http.hot_paths import HotPaths, options_route
from pulse.http.openapi.page import document_routes
from pulse.http.parameters import DEPENDENCIES, read_parameters
from pulse.http.rights import check_right, require_declared_rights, require_right
from pulse.http.routes import RoutedApp


class ApiUseCases(msgspec.Struct, frozen=True):
    """What the calls of the API need."""

    orders: InProcessOrders
    past: Past
    halts: ReleaseHalts
    feed: EventFeed
    sealed_log: SealedLog
    readiness: Readiness


def create_api(use_cases: ApiUseCases) -> RoutedApp:
    """The API over these use cases. Calls below `/internal` fail without the auth middleware.

    Raises:
        TypeError: a route below `/internal` does not declare the right that it needs.
    """
    hot_paths = HotPaths(
        "/internal/orders",
        use_cases.orders,
        authorize_place=partial(require_right, wanted="write"),
        authorize_read=partial(require_right, wanted="read"),
        positions=True,
    )
    handlers = [
        *health_routes(use_cases.readiness),
        hot_paths.place_route(),
        *past_routes(use_cases.past, hot_paths),
        *order_routes(use_cases.orders),
        *list_routes(use_cases.orders),
        *event_routes(use_cases.orders, use_cases.feed),
        *stream_routes(use_cases.feed),
        *halt_routes(use_cases.halts),
        *seal_routes(use_cases.sealed_log),
    ]
    framework = Litestar(
        route_handlers=[
            options_route("/internal/orders"),
            options_route("/internal/halts"),
            *handlers,
            *document_routes(lambda: document_of_api(handlers)),
        ],
        guards=[check_right],
        before_request=read_parameters,
        dependencies=DEPENDENCIES,
        exception_handlers={Exception: handle_error},
        before_send=[allow_head],
        openapi_config=None,
        logging_config=None,
    )
    require_declared_rights(framework)
    return RoutedApp(hot_paths.wrap(cast("ASGIApp", framework)), framework)

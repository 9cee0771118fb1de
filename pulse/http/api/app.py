"""The internal API as an application at `/`: Litestar, and the busiest calls before it."""

from typing import cast

from litestar import Litestar

from pulse.application import OrdersAndQueries, Readiness
from pulse.http.api.document import document_of_api
from pulse.http.api.health import health_routes
from pulse.http.api.lists import list_routes
from pulse.http.api.options import options_routes
from pulse.http.api.orders import ORDERS_PATH, order_routes, place_one, read_one
from pulse.http.asgi import ASGIApp
from pulse.http.busiest import BusiestCalls
from pulse.http.errors import handle_error
from pulse.http.exchange import allow_head
from pulse.http.openapi import explaining_routes
from pulse.http.parameters import refuse_undeclared_parameters


def create_api(orders: OrdersAndQueries, readiness: Readiness) -> ASGIApp:
    """The API over these use cases. It needs its door: without one every order is refused."""
    framework = Litestar(
        route_handlers=[
            *options_routes(),
            *health_routes(readiness),
            *order_routes(orders),
            *list_routes(orders),
            *explaining_routes(document_of_api),
        ],
        before_request=refuse_undeclared_parameters,
        exception_handlers={Exception: handle_error},
        before_send=[allow_head],
        openapi_config=None,
        logging_config=None,
    )
    return BusiestCalls(
        ORDERS_PATH, place_one(orders), read_one(orders), cast("ASGIApp", framework)
    )

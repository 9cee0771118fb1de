"""The internal API as a Litestar application that lives at `/`."""

from litestar import Litestar

from pulse.application import OrdersAndQueries, Readiness
from pulse.http.api.document import document_of_api
from pulse.http.api.health import health_routes
from pulse.http.api.lists import list_routes
from pulse.http.api.options import options_routes
from pulse.http.api.orders import order_routes
from pulse.http.errors import handle_error
from pulse.http.openapi import explaining_routes


def create_api(orders: OrdersAndQueries, readiness: Readiness) -> Litestar:
    """The API over these use cases."""
    return Litestar(
        route_handlers=[
            *options_routes(),
            *health_routes(readiness),
            *order_routes(orders),
            *list_routes(orders),
            *explaining_routes(document_of_api),
        ],
        exception_handlers={Exception: handle_error},
        openapi_config=None,
        logging_config=None,
    )

"""The gateway as a Litestar application that lives at `/`."""

from litestar import Litestar

from pulse.application import Orders
from pulse.http.errors import handle_error
from pulse.http.gateway.document import document_of_gateway
from pulse.http.gateway.orders import gateway_routes
from pulse.http.openapi import explaining_routes


def create_gateway(orders: Orders) -> Litestar:
    """The gateway over these use cases. It needs its door: without one every order is refused."""
    return Litestar(
        route_handlers=[*gateway_routes(orders), *explaining_routes(document_of_gateway)],
        exception_handlers={Exception: handle_error},
        openapi_config=None,
        logging_config=None,
    )

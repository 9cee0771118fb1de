"""Health of a process without an API, as an application at `/`."""

from typing import Any, cast

from litestar import Litestar

from pulse.application.readiness import Readiness
from pulse.http.api.health import health_routes
from pulse.http.asgi import ASGIApp
from pulse.http.errors import handle_error
from pulse.http.exchange import allow_head
from pulse.http.parameters import read_parameters
from pulse.http.routes import RoutedApp


def create_health(readiness: Readiness) -> RoutedApp:
    """`/health` and `/health/ready`, as the API has them."""
    read_health, read_readiness, _ = health_routes(readiness)
    framework = Litestar(
        route_handlers=[read_health, read_readiness],
        before_request=read_parameters,
        exception_handlers={Exception: handle_error},
        before_send=[allow_head],
        openapi_config=None,
        logging_config=None,
    )
    return RoutedApp(cast("ASGIApp", cast("Any", framework)), framework)

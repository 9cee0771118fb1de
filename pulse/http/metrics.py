"""The metrics of this process over HTTP."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from litestar import Litestar, Response, get
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from pulse import metrics
from pulse.http.asgi import ASGIApp
from pulse.http.errors import handle_error
from pulse.http.exchange import allow_head
from pulse.http.parameters import read_parameters
from pulse.http.rights import check_right, needs
from pulse.http.routes import RoutedApp

METRICS_PATH: Final = "/metrics"
"""Exempt from load shedding, as health is: metrics must stay readable under overload."""


async def process_metrics() -> bytes:
    """The metrics of this process, in Prometheus's text format."""
    return await asyncio.to_thread(generate_latest, metrics.REGISTRY)


def create_metrics(read: Callable[[], Awaitable[bytes]] = process_metrics) -> RoutedApp:
    """The application below METRICS_PATH. It fails without the auth middleware."""

    @get("/", opt=needs("read"))
    async def read_metrics() -> Response[bytes]:
        """The metrics, in Prometheus's text format. No query of the database."""
        return Response(await read(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    framework = Litestar(
        route_handlers=[read_metrics],
        guards=[check_right],
        before_request=read_parameters,
        exception_handlers={Exception: handle_error},
        before_send=[allow_head],
        openapi_config=None,
        logging_config=None,
    )
    return RoutedApp(cast("ASGIApp", cast("Any", framework)), framework)

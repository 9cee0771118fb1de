"""The applications that a process serves, and the workers alone: each wired from the settings."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
import structlog

from pulse.application import Orders
from pulse.errors import PulseError
from pulse.http.api import InternalDoor, create_api
from pulse.http.gateway import GatewayDoor, TokenChecker, create_gateway
from pulse.http.head import HeadAsGet
from pulse.http.request_log import LoggedRoot
from pulse.http.root import ASGIApp, Mounts, Root
from pulse.logs import report_fault
from pulse.process.gateway import open_orders_elsewhere, open_token_checker
from pulse.process.limits import limits_of, rate_limited
from pulse.process.node import Node
from pulse.process.server import open_server
from pulse.process.startup import STOP_SIGNALS, stop_on_hangup, tune_gc
from pulse.settings import Settings

_log = structlog.get_logger(__name__)


def everything(settings: Settings) -> Root:
    """All in one process, on one pool: the API under `/pulse`, the gateway under `/gapi`, workers.

    The gateway hands its orders to the API's own use cases, without a hop.
    """
    return _root(settings, lambda: _everything(settings))


def api_alone(settings: Settings) -> Root:
    """The API at `/`, without workers: orders stay PENDING until somebody's worker takes them."""
    return _root(settings, lambda: _api_alone(settings))


def gateway_alone(settings: Settings, transport: httpx.AsyncBaseTransport | None = None) -> Root:
    """The gateway at `/`, before the Pulse API of the settings; it has no database.

    `transport` takes the place of the network in tests.
    """
    return _root(settings, lambda: _gateway_alone(settings, transport))


async def work_until_stopped(settings: Settings) -> None:
    """The workers alone, until SIGTERM or SIGINT; what cannot start ends it with exit code 3."""
    stopped = asyncio.Event()
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    stop_on_hangup()
    try:
        async with _open_node(settings, with_workers=True):
            tune_gc()
            _log.info("workers.started")
            await stopped.wait()
            _log.info("workers.stopping")
    except PulseError as error:
        report_fault(str(error))
        raise SystemExit(3) from None
    _log.info("workers.stopped")


def _warn_of_httptools() -> None:
    if "uvicorn.protocols.http.httptools_impl" in sys.modules:
        _log.warning(
            "http.unsafe_parser",
            parser="httptools",
            consequence="it reads the body of a request that offers an upgrade as a new request, "
            "and buffers trailer fields without a bound",
            remedy="start with `pulse up`, or give uvicorn --http zttp or --http h11",
        )


def _root(settings: Settings, mounts: Callable[[], AbstractAsyncContextManager[Mounts]]) -> Root:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Mounts]:
        stop_on_hangup()
        _warn_of_httptools()
        async with mounts() as found:
            tune_gc()
            yield found

    root = LoggedRoot if settings.log_level == "debug" else Root
    return root(opened, limits_of(settings))


@asynccontextmanager
async def _everything(settings: Settings) -> AsyncIterator[Mounts]:
    async with (
        open_token_checker(settings) as tokens,
        _open_node(settings, with_workers=True) as node,
    ):
        yield {"/pulse": _api(settings, node), "/gapi": _gateway(settings, node.orders, tokens)}


@asynccontextmanager
async def _api_alone(settings: Settings) -> AsyncIterator[Mounts]:
    async with _open_node(settings, with_workers=False) as node:
        yield {"": _api(settings, node)}


@asynccontextmanager
async def _gateway_alone(
    settings: Settings, transport: httpx.AsyncBaseTransport | None
) -> AsyncIterator[Mounts]:
    async with (
        open_token_checker(settings) as tokens,
        open_orders_elsewhere(settings, transport) as orders,
    ):
        yield {"": _gateway(settings, orders, tokens)}


def _api(settings: Settings, node: Node) -> ASGIApp:
    api = create_api(node.orders, node.readiness)
    limited = rate_limited(api, settings.internal_rate_limit_per_second, settings)
    return HeadAsGet(InternalDoor(limited, settings.service_tokens))


def _gateway(settings: Settings, orders: Orders, tokens: TokenChecker) -> ASGIApp:
    gateway = create_gateway(orders)
    limited = rate_limited(gateway, settings.rate_limit_per_second, settings)
    return HeadAsGet(GatewayDoor(limited, tokens))


@asynccontextmanager
async def _open_node(settings: Settings, *, with_workers: bool) -> AsyncIterator[Node]:
    async with open_server(settings) as server:
        node = Node(settings, server.conninfo)
        async with node.running(with_workers=with_workers):
            watch = asyncio.create_task(server.watch())
            try:
                yield node
            finally:
                watch.cancel()

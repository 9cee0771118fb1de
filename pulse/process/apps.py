"""Builds what a process runs from its settings: the ASGI applications, or the workers alone."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final

import httpx
import structlog
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from pulse.application.orders import Orders
from pulse.application.over_http import open_orders_over_http
from pulse.errors import PulseError
from pulse.http.api.app import create_api
from pulse.http.asgi import ASGIApp
from pulse.http.auth import GatewayAuthMiddleware, InternalAuthMiddleware
from pulse.http.gateway.app import create_gateway
from pulse.http.gateway.keys import JwksKeys, KeySource, NoKeys, StaticKey
from pulse.http.gateway.tokens import TokenChecker, TokenRules
from pulse.http.limits import AdmissionLimits, RateLimiter, RateLimitMiddleware
from pulse.http.root import Mounts, Root
from pulse.http_client import open_client
from pulse.logs import report_fatal_error
from pulse.process.node import Node
from pulse.process.server import open_server
from pulse.process.startup import STOP_SIGNALS, on_stop_signal, stop_on_hangup, tune_gc
from pulse.settings import Settings

_log = structlog.get_logger(__name__)
_MIN_CALLERS_TO_FILL_A_PROCESS: Final = 8
_TO_ACCEPT_TOKENS: Final = (
    "set PULSE_JWT_AUDIENCE, PULSE_JWT_ISSUER, and either PULSE_JWT_SECRET (HS256) or "
    "PULSE_JWT_ALGORITHM with PULSE_JWT_PUBLIC_KEY or PULSE_JWT_JWKS_URL"
)
_TO_REACH_PULSE: Final = (
    "set PULSE_GATEWAY_SERVICE_TOKEN here, and the same token in the API's PULSE_SERVICE_TOKENS as "
    "gateway:TOKEN"
)


def all_in_one_app(settings: Settings) -> Root:
    """The API under `/pulse`, the gateway under `/gapi`, and the workers, on one connection pool.

    The gateway calls the API's use cases directly, not over HTTP.
    """

    @asynccontextmanager
    async def open_mounts() -> AsyncIterator[Mounts]:
        async with (
            _open_token_checker(settings) as tokens,
            _open_node(settings, with_workers=True) as node,
        ):
            yield {"/pulse": _api(settings, node), "/gapi": _gateway(settings, node.orders, tokens)}

    return _root(settings, open_mounts)


def api_app(settings: Settings) -> Root:
    """The API at `/`, without workers: orders stay PENDING until a worker process claims them."""

    @asynccontextmanager
    async def open_mounts() -> AsyncIterator[Mounts]:
        async with _open_node(settings, with_workers=False) as node:
            yield {"": _api(settings, node)}

    return _root(settings, open_mounts)


def gateway_app(settings: Settings, transport: httpx.AsyncBaseTransport | None = None) -> Root:
    """The gateway at `/`, which calls the Pulse API at `api_base_url` and has no database.

    `transport` replaces the network in tests.
    """

    @asynccontextmanager
    async def open_mounts() -> AsyncIterator[Mounts]:
        token = settings.gateway_service_token
        if token is None:
            _log.warning("gateway.no_service_token", remedy=_TO_REACH_PULSE)
        revealed = token.reveal() if token else None
        async with (
            _open_token_checker(settings) as tokens,
            open_orders_over_http(settings.api_base_url, revealed, transport=transport) as orders,
        ):
            yield {"": _gateway(settings, orders, tokens)}

    return _root(settings, open_mounts)


async def run_workers(settings: Settings) -> None:
    """Run the workers until SIGTERM or SIGINT. Exit with code 3 if they cannot start."""
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
        report_fatal_error(str(error))
        raise SystemExit(3) from None
    _log.info("workers.stopped")


def limits_of(settings: Settings) -> AdmissionLimits:
    """The limits on this process's requests, over all callers."""
    return AdmissionLimits(
        requests_in_flight=settings.max_requests_in_flight,
        bodies_in_progress=settings.max_requests_in_flight,
        body_seconds=settings.body_timeout_seconds,
    )


def _root(
    settings: Settings, open_mounts: Callable[[], AbstractAsyncContextManager[Mounts]]
) -> Root:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Mounts]:
        stop_on_hangup()
        _warn_of_httptools()
        async with open_mounts() as mounts:
            tune_gc()
            yield mounts

    return Root(opened, limits_of(settings), log_requests=settings.log_level == "debug")


def _warn_of_httptools() -> None:
    if "uvicorn.protocols.http.httptools_impl" in sys.modules:
        _log.warning(
            "http.unsafe_parser",
            parser="httptools",
            consequence="it parses the body of a request with an Upgrade header as a new request, "
            "and buffers trailer fields without a limit",
            remedy="start with `pulse up`, or give uvicorn --http zttp or --http h11",
        )


def _api(settings: Settings, node: Node) -> ASGIApp:
    api = create_api(node.orders, node.halts, node.feed, node.readiness)
    limited = _rate_limited(api, settings.internal_rate_limit_per_second, settings)
    return InternalAuthMiddleware(limited, settings.service_tokens, settings.service_rights)


def _gateway(settings: Settings, orders: Orders, tokens: TokenChecker) -> ASGIApp:
    gateway = create_gateway(orders)
    limited = _rate_limited(gateway, settings.rate_limit_per_second, settings)
    return GatewayAuthMiddleware(limited, tokens.check)


def _rate_limited(app: ASGIApp, per_second: float, settings: Settings) -> ASGIApp:
    """The application with a rate limit per caller; unchanged if the rate is 0."""
    if not per_second:
        return app
    limiter = RateLimiter(per_second, settings.rate_limit_burst_seconds)
    max_in_flight = max(1, settings.max_requests_in_flight // _MIN_CALLERS_TO_FILL_A_PROCESS)
    return RateLimitMiddleware(app, limiter, max_in_flight)


@asynccontextmanager
async def _open_node(settings: Settings, *, with_workers: bool) -> AsyncIterator[Node]:
    async with open_server(settings) as server:
        node = Node(settings, server, with_workers=with_workers)
        async with node.running():
            with on_stop_signal(node.feed.stop):
                yield node


@asynccontextmanager
async def _open_token_checker(settings: Settings) -> AsyncIterator[TokenChecker]:
    """A token checker; without a key it logs a warning and refuses every token."""
    async with AsyncExitStack() as stack:
        keys = await _open_keys(settings, stack)
        if isinstance(keys, NoKeys):
            _log.warning("gateway.no_token_key", remedy=_TO_ACCEPT_TOKENS)
        rules = TokenRules(
            settings.jwt_algorithm or "HS256",
            audience=settings.jwt_audience or "",
            issuer=settings.jwt_issuer or "",
            max_lifetime_seconds=settings.jwt_max_lifetime_seconds,
        )
        yield TokenChecker(rules, keys)


async def _open_keys(settings: Settings, stack: AsyncExitStack) -> KeySource:
    if settings.jwt_secret is not None:
        return StaticKey(settings.jwt_secret.reveal().encode())
    if settings.jwt_public_key is not None:
        return StaticKey(load_pem_public_key(settings.jwt_public_key.encode()))  # type: ignore[arg-type]
    if settings.jwt_jwks_url is None or settings.jwt_algorithm is None:
        return NoKeys()
    url = settings.jwt_jwks_url
    # HTTP_PROXY and the like apply to an https issuer, but not to an http one on this machine
    client = open_client(
        "PULSE_JWT_JWKS_URL",
        trust_env=url.startswith("https:"),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
    )
    http = await stack.enter_async_context(client)
    keys = JwksKeys(http, url, settings.jwt_algorithm)
    stack.push_async_callback(keys.close)
    return keys

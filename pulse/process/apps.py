"""Builds the ASGI applications of a process from its settings."""

import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
)
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Final, NamedTuple

import httpx
import structlog
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from pulse import metrics
from pulse.application.orders import Orders
from pulse.application.over_http import open_orders_over_http
from pulse.application.readiness import Readiness
from pulse.http.api.app import ApiUseCases, create_api
from pulse.http.api.monitoring import create_health
from pulse.http.asgi import ASGIApp
from pulse.http.auth import GatewayAuthMiddleware, InternalAuthMiddleware, ServiceTokens
from pulse.http.console.app import ConsoleUseCases, RootPage, create_console
from pulse.http.console.pages import send_error
from pulse.http.console.sessions import CONSOLE_PATH, ConsoleAuthMiddleware, ConsoleSessions
from pulse.http.gateway.app import create_gateway
from pulse.http.gateway.keys import JwksKeys, KeySource, NoKeys, StaticKey
from pulse.http.gateway.tokens import TokenChecker, TokenRules
from pulse.http.limits import AdmissionLimits, RateLimiter, RateLimitMiddleware
from pulse.http.metrics import METRICS_PATH, create_metrics
from pulse.http.request_log import RequestLine, RequestLog, render_json, render_text
from pulse.http.request_spans import RequestSpans
from pulse.http.root import Mounts, RequestObserver, Root
from pulse.http.routes import RoutedApp
from pulse.http_client import open_client
from pulse.line_writer import LineWriter
from pulse.logs import LogHandler, info_handler
from pulse.process.group.member import Member
from pulse.process.group.metrics import exposing_metrics, group_metrics
from pulse.process.node import Node, WorkerLocation, open_node
from pulse.process.startup import stop_on_hangup, tune_gc
from pulse.settings import Settings
from pulse.tracing import open_spans

if TYPE_CHECKING:
    from pulse.spans import Spans

_log = structlog.get_logger(__name__)
_MIN_CALLERS_TO_FILL_A_PROCESS: Final = 8
_FRACTIONS: Final = {"all": 1.0, "errors": 0.0}
"""The words of PULSE_LOG_REQUESTS as fractions of the requests."""
_TO_ACCEPT_TOKENS: Final = (
    "set PULSE_JWT_AUDIENCE, PULSE_JWT_ISSUER, and either PULSE_JWT_SECRET (HS256) or "
    "PULSE_JWT_ALGORITHM with PULSE_JWT_PUBLIC_KEY or PULSE_JWT_JWKS_URL"
)
_TO_REACH_PULSE: Final = (
    "set PULSE_GATEWAY_SERVICE_TOKEN here, and the same token in the API's PULSE_SERVICE_TOKENS as "
    "gateway:TOKEN"
)


def all_in_one_app(settings: Settings, member: Member | None = None) -> Root:
    """API, gateway and console below `/pulse`, `/gapi` and `/console`, and the workers.

    They share one connection pool. The gateway calls the API's use cases directly, not over HTTP.
    In a browser `/` redirects to the console. As a member of a group it has no workers, since other
    members have them.
    """
    root_page = RootPage()

    @asynccontextmanager
    async def open_mounts(spans: "Spans | None") -> AsyncIterator[_RoutedMounts]:
        async with (
            exposing_metrics(settings, member),
            _open_token_checker(settings) as tokens,
            open_node(
                settings, spans, WorkerLocation.HERE if member is None else WorkerLocation.IN_GROUP
            ) as node,
        ):
            yield {
                **_metrics(settings, member),
                "/pulse": _api(settings, node),
                "/gapi": _gateway(settings, node.orders, tokens),
                CONSOLE_PATH: _console(settings, node, "/pulse"),
                "": _Routed(root_page, root_page),
            }

    return _root(settings, open_mounts, "pulse")


def api_app(settings: Settings) -> Root:
    """The API at `/` and the console at `/console`, without workers.

    Orders stay PENDING until a worker process claims them.
    """

    @asynccontextmanager
    async def open_mounts(spans: "Spans | None") -> AsyncIterator[_RoutedMounts]:
        async with open_node(settings, spans, WorkerLocation.ELSEWHERE) as node:
            yield {
                **_metrics(settings),
                CONSOLE_PATH: _console(settings, node, ""),
                "": _api(settings, node),
            }

    return _root(settings, open_mounts, "pulse-api")


def gateway_app(settings: Settings, transport: httpx.AsyncBaseTransport | None = None) -> Root:
    """The gateway at `/`, which calls the Pulse API at `api_base_url` and has no database.

    `transport` replaces the network in tests.
    """

    @asynccontextmanager
    async def open_mounts(spans: "Spans | None") -> AsyncIterator[_RoutedMounts]:
        url = settings.api_base_url
        token = settings.gateway_service_token
        if token is None:
            _log.warning("gateway.no_service_token", remedy=_TO_REACH_PULSE)
        revealed = token.reveal() if token else None
        async with (
            _open_token_checker(settings) as tokens,
            open_orders_over_http(url, revealed, transport=transport, spans=spans) as orders,
        ):
            yield {**_metrics(settings), "": _gateway(settings, orders, tokens)}

    return _root(settings, open_mounts, "pulse-gateway")


def monitoring_app(settings: Settings, readiness: Readiness) -> Root:
    """The application of the monitoring port: `/metrics` unless it is off, both health checks."""

    @asynccontextmanager
    async def open_mounts(_: "Spans | None") -> AsyncIterator[_RoutedMounts]:
        health = create_health(readiness)
        yield {**_metrics(settings), "": _Routed(health, health)}

    return _root(settings, open_mounts, None)


def limits_of(settings: Settings) -> AdmissionLimits:
    """The limits on this process's requests, over all callers."""
    return AdmissionLimits(
        requests_in_flight=settings.max_requests_in_flight,
        bodies_in_progress=settings.max_requests_in_flight,
        body_seconds=settings.body_timeout_seconds,
    )


class _Routed(NamedTuple):
    """`inner` is the application, which has the routes; `app` is `inner` with its middleware."""

    app: ASGIApp
    inner: RoutedApp | RootPage


_RoutedMounts = Mapping[str, _Routed]


def _root(
    settings: Settings,
    open_mounts: "Callable[[Spans | None], AbstractAsyncContextManager[_RoutedMounts]]",
    service_name: str | None,
) -> Root:
    """A root that measures and logs its requests as the settings say.

    It traces them if it has a service name and the environment has an endpoint for spans.
    """
    writer, request_log = _request_log(settings.log_requests, info_handler())
    observer = RequestObserver(measure=settings.metrics, log=request_log)

    @asynccontextmanager
    async def opened() -> AsyncIterator[Mounts]:
        stop_on_hangup()
        _warn_about_httptools()
        metrics.export_build_info()
        async with AsyncExitStack() as stack:
            if writer is not None:
                stack.push_async_callback(writer.close)
            spans = None
            if service_name is not None:
                spans = await stack.enter_async_context(open_spans(service_name))
            observer.spans = None if spans is None else RequestSpans(spans)
            mounts = await stack.enter_async_context(open_mounts(spans))
            observer.routes = {at: mounted.inner.routes_below(at) for at, mounted in mounts.items()}
            tune_gc()
            yield {prefix: mounted.app for prefix, mounted in mounts.items()}

    root = Root(opened, limits_of(settings), observer, pages=(CONSOLE_PATH,))
    metrics.HTTP_IN_FLIGHT.set_function(lambda: root.requests_in_flight)
    return root


def _request_log(
    log_requests: str, handler: LogHandler | None
) -> tuple[LineWriter[RequestLine] | None, RequestLog | None]:
    """The line writer and the request log that uses it; None if no request is logged."""
    if handler is None or log_requests == "off":
        return None, None
    renderer = handler.renderer
    render = render_json if renderer is None else partial(render_text, renderer)
    writer = LineWriter[RequestLine](handler, render)
    fraction = _FRACTIONS.get(log_requests)
    if fraction is None:
        fraction = float(log_requests)
    return writer, RequestLog(writer.write, fraction, handler.process)


def _warn_about_httptools() -> None:
    if "uvicorn.protocols.http.httptools_impl" in sys.modules:
        _log.warning(
            "http.unsafe_parser",
            parser="httptools",
            consequence="it parses the body of a request with an Upgrade header as a new request, "
            "and buffers trailer fields without a limit",
            remedy="start with `pulse up`, or give uvicorn --http zttp or --http h11",
        )


def _api(settings: Settings, node: Node) -> _Routed:
    api = create_api(
        ApiUseCases(
            orders=node.orders,
            past=node.past,
            halts=node.halts,
            feed=node.feed,
            sealed_log=node.sealed_log,
            readiness=node.readiness,
        )
    )
    limited = _rate_limited(api, settings.internal_rate_limit_per_second, settings)
    return _Routed(_for_services(limited, settings), api)


def _console(settings: Settings, node: Node, api_prefix: str) -> _Routed:
    tokens = ServiceTokens(settings.service_tokens, settings.service_rights)
    sessions = ConsoleSessions(tokens)
    console = create_console(
        ConsoleUseCases(
            orders=node.orders,
            past=node.past,
            halts=node.halts,
            feed=node.feed,
            sealed_log=node.sealed_log,
            overview=node.overview,
            due=node.due,
            failures=node.failures,
            seal=node.seal,
            api_prefix=api_prefix,
        ),
        tokens,
        sessions,
    )
    limited = _rate_limited(console, settings.internal_rate_limit_per_second, settings)
    return _Routed(ConsoleAuthMiddleware(limited, tokens, sessions, send_error), console)


def _gateway(settings: Settings, orders: Orders, tokens: TokenChecker) -> _Routed:
    gateway = create_gateway(orders)
    limited = _rate_limited(gateway, settings.rate_limit_per_second, settings)
    return _Routed(GatewayAuthMiddleware(limited, tokens.check), gateway)


def _metrics(settings: Settings, member: Member | None = None) -> _RoutedMounts:
    """The mount of the metrics of this process or its group, unless they are off."""
    if not settings.metrics:
        return {}
    app = create_metrics() if member is None else create_metrics(partial(group_metrics, member))
    return {METRICS_PATH: _Routed(_for_services(app, settings, every_path=True), app)}


def _for_services(app: ASGIApp, settings: Settings, *, every_path: bool = False) -> ASGIApp:
    tokens, rights = settings.service_tokens, settings.service_rights
    return InternalAuthMiddleware(app, tokens, rights, every_path=every_path)


def _rate_limited(app: ASGIApp, per_second: float, settings: Settings) -> ASGIApp:
    """The application with a rate limit per caller; unchanged if the rate is 0."""
    if not per_second:
        return app
    limiter = RateLimiter(per_second, settings.rate_limit_burst_seconds)
    max_in_flight = max(1, settings.max_requests_in_flight // _MIN_CALLERS_TO_FILL_A_PROCESS)
    return RateLimitMiddleware(app, limiter, max_in_flight)


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
    # HTTPS_PROXY and ALL_PROXY apply to an https issuer; an http one is on this machine: no proxy
    client = open_client(
        "PULSE_JWT_JWKS_URL",
        trust_env=url.startswith("https:"),
        verify=not url.startswith("http:"),  # without TLS no certificates are read
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
    )
    http = await stack.enter_async_context(client)
    keys = JwksKeys(http, url, settings.jwt_algorithm)
    stack.push_async_callback(keys.close)
    return keys

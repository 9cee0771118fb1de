"""The console as an application below `/console`: pages rendered on the server."""

from typing import Any, Final, cast

import msgspec
from litestar import Litestar, Response, get
from litestar.config.compression import CompressionConfig
from litestar.di import NamedDependency
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from pulse.application.due import DueSlices
from pulse.application.event_feed import EventFeed
from pulse.application.failures import Failures
from pulse.application.halts import ReleaseHalts
from pulse.application.in_process import InProcessOrders
from pulse.application.overview import Overview
from pulse.application.past import Past
from pulse.application.seal_status import SealReader
from pulse.evidence.tree import SealedLog
from pulse.http.asgi import (
    IMMUTABLE_HEADERS,
    SECURITY_HEADERS_KEY,
    ASGIApp,
    Receive,
    Scope,
    Send,
)
from pulse.http.auth import ServiceTokens
from pulse.http.console.due import due_routes
from pulse.http.console.failed import failed_routes
from pulse.http.console.halts import halt_routes
from pulse.http.console.log import log_routes
from pulse.http.console.order import order_routes
from pulse.http.console.orders import orders_routes
from pulse.http.console.overview import overview_routes
from pulse.http.console.pages import (
    DEPENDENCIES,
    AnyRequest,
    handle_error,
    read_request,
    static_files,
)
from pulse.http.console.sessions import CONSOLE_PATH, ConsoleSessions
from pulse.http.console.signing_in import signing_in_routes
from pulse.http.exchange import allow_head
from pulse.http.rights import check_right, needs, require_declared_rights
from pulse.http.routes import RoutedApp, Routes

_COMPRESSION: Final = CompressionConfig("gzip", minimum_size=8192, gzip_compress_level=4)
"""A table of 40 rows compresses to a sixth. See `csrf_token_for` about secrets in such pages."""


class ConsoleUseCases(msgspec.Struct, frozen=True):
    """What the pages need. `api_prefix` is where the internal API is mounted."""

    orders: InProcessOrders
    past: Past
    halts: ReleaseHalts
    feed: EventFeed
    sealed_log: SealedLog
    overview: Overview
    due: DueSlices
    failures: Failures
    seal: SealReader
    api_prefix: str


def create_console(
    use_cases: ConsoleUseCases, tokens: ServiceTokens, sessions: ConsoleSessions
) -> RoutedApp:
    """The console over these use cases. Its pages fail without the console's auth middleware.

    Raises:
        TypeError: a route does not declare the right that it needs.
    """
    framework = Litestar(
        route_handlers=[
            _static_route(),
            *signing_in_routes(tokens, sessions),
            *overview_routes(use_cases.overview),
            *due_routes(use_cases.due, use_cases.halts),
            *failed_routes(use_cases.failures),
            *log_routes(use_cases.orders, use_cases.seal),
            *halt_routes(use_cases.halts, use_cases.due, use_cases.orders),
            *orders_routes(use_cases.orders),
            *order_routes(use_cases.orders, use_cases.past, use_cases.halts, use_cases.api_prefix),
        ],
        guards=[check_right],
        before_request=read_request,
        dependencies=DEPENDENCIES,
        exception_handlers={Exception: handle_error},
        before_send=[allow_head],
        compression_config=_COMPRESSION,
        openapi_config=None,
        logging_config=None,
    )
    require_declared_rights(framework, every_path=True)
    return RoutedApp(cast("ASGIApp", cast("Any", framework)), framework)


class StaticParameters(msgspec.Struct, frozen=True):
    """The hash in the address of a static file."""

    v: str | None = None


def _static_route() -> HTTPRouteHandler:
    @get("/static/{name:str}", opt=needs(None), sync_to_thread=False)
    def static_file(
        request: AnyRequest, name: FromPath[str], parameters: NamedDependency[StaticParameters]
    ) -> Response[bytes]:
        """A file of `static/`. With its hash in the address, it may be cached without limit."""
        file = static_files().get(name)
        if file is None:
            raise NotFoundException
        if parameters.v == file.version:
            request.scope[SECURITY_HEADERS_KEY] = IMMUTABLE_HEADERS  # type: ignore[typeddict-unknown-key]
        return Response(file.content, media_type=file.media_type)

    return static_file


class RootPage:
    """The application at `/`, next to the other mounts: it redirects browsers to the console.

    It answers 404 to every request except a GET of `/` that accepts HTML.
    """

    def routes_below(self, prefix: str) -> Routes:
        """No routes: it answers only redirects and 404."""
        return Routes([], prefix)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI.

        Raises:
            NotFoundException: the request is not a GET of `/`, or does not accept HTML.
        """
        del receive
        accepted = b",".join(value for name, value in scope["headers"] if name == b"accept")
        if scope["path"] != "/" or scope["method"] != "GET" or b"text/html" not in accepted:
            raise NotFoundException
        headers = [(b"location", CONSOLE_PATH[1:].encode()), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 307, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

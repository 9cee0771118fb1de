"""The outermost ASGI application: lifespan, mounts, admission, and uncaught errors."""

import asyncio
import re
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from html import escape
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import msgspec
import structlog
from litestar.exceptions import NotFoundException

from pulse.errors import PulseError
from pulse.eventstore import AppendOutcomeUnknown
from pulse.http.asgi import (
    ORDER_ID_KEY,
    TRACE_KEY,
    ASGIApp,
    RawHeaders,
    Receive,
    Scope,
    Send,
)
from pulse.http.errors import (
    JSON,
    BadRequest,
    ErrorBody,
    ErrorResponse,
    answer_for,
    error_headers,
)
from pulse.http.exchange import Exchange
from pulse.http.limits import HEALTH_PATHS, Admission, AdmissionLimits
from pulse.http.metrics import METRICS_PATH
from pulse.http.negotiation import preferred_type
from pulse.http.request_log import RequestLog
from pulse.http.request_spans import RequestSpans
from pulse.http.routes import NO_ROUTES, Routes
from pulse.http.tracing import headers_of, trace_of
from pulse.metrics import HTTP_REQUESTS

if TYPE_CHECKING:
    from pulse.spans import Span

_log = structlog.get_logger(__name__)

_ABSOLUTE_FORM: Final = re.compile(rb"https?://([^/?#@]+)(/.*)?", re.IGNORECASE | re.DOTALL)
_ENCODED_SLASH: Final = re.compile(rb"%2f", re.IGNORECASE)
_STOPPED: Final = "Pulse stopped while it processed the request"

_HTML: Final = "text/html; charset=utf-8"
_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>This did not work · Pulse</title>
<h1>This did not work</h1>
<p>{message}.</p>
<p><a href="">Try again</a></p>
<p>{status} {code} · trace id <code>{trace_id}</code></p>
</html>
"""

Mounts = Mapping[str, ASGIApp]
"""Applications by path prefix. The first that matches is used; the empty one matches every path."""


class RequestObserver:
    """Measures, logs and traces requests by their routes, known once the mounts are open."""

    def __init__(self, *, measure: bool, log: RequestLog | None) -> None:
        self.routes: Mapping[str, Routes] = {}
        """The routes of each mount, by its prefix."""
        self.spans: RequestSpans | None = None
        """Set before the mounts are opened, if this process exports spans."""
        self._measure = measure
        self._log = log

    @property
    def is_on(self) -> bool:
        """Whether requests are measured, logged or traced."""
        return self._measure or self._log is not None or self.spans is not None

    def observe(  # noqa: PLR0913, PLR0917 - called for every request, so without keywords
        self,
        method: str,
        prefix: str,
        scope: Scope,
        status: int,
        seconds: float,
        span: "Span | None",
    ) -> None:
        """Measure and log a request that has ended, and end its span."""
        routes = self.routes.get(prefix, NO_ROUTES)
        route, order_id = routes.find(scope["path"])
        if self._measure:
            HTTP_REQUESTS.observe(method, route, status, seconds)
        if self._log is not None:
            order_id = scope.get(ORDER_ID_KEY, order_id)
            self._log.log(method, route, status, seconds, scope[TRACE_KEY], order_id, scope)
        if span is not None:
            order_id = scope.get(ORDER_ID_KEY, order_id)
            RequestSpans.end(span, method, route, status, order_id)


class Root:
    """Opens the mounts at startup, and dispatches each request to one of them.

    The observer measures, logs and traces each request. Below the prefixes in `pages`, a refused
    request that prefers HTML is answered with a plain page, all others with JSON. Rendering a page
    of the mount itself would cost an overloaded process too much.
    """

    def __init__(
        self,
        open_mounts: Callable[[], AbstractAsyncContextManager[Mounts]],
        limits: AdmissionLimits | None = None,
        observer: RequestObserver | None = None,
        pages: Collection[str] = (),
    ) -> None:
        self._pages = frozenset(pages)
        self._open_mounts = open_mounts
        self._admission = Admission(limits or AdmissionLimits())
        self._given_observer = observer
        self._observer: RequestObserver | None = None
        self._mounts: Mounts = {}

    @property
    def requests_in_flight(self) -> int:
        """How many requests are in flight."""
        return self._admission.in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        stage = "startup"
        try:
            async with self._open_mounts() as self._mounts:
                observer = self._given_observer
                self._observer = observer if observer is not None and observer.is_on else None
                await send({"type": "lifespan.startup.complete"})
                stage = "shutdown"
                await receive()
        except PulseError as error:
            await send({"type": f"lifespan.{stage}.failed", "message": str(error)})
        except Exception:  # noqa: BLE001 - to a server a raise may mean "no lifespan support"
            _log.exception("lifespan.crashed", stage=stage)
            message = f"Pulse crashed at {stage}; the error is in the log"
            await send({"type": f"lifespan.{stage}.failed", "message": message})
        else:
            await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, server_scope: Scope, receive: Receive, send: Send) -> None:
        arrived_at = time.perf_counter()
        scope, prefix, mounted = self._route(server_scope)
        exchange = Exchange(scope, receive, send, self._admission)
        raw_path: bytes = scope["raw_path"]
        trace = trace_of(server_scope["method"], raw_path, prefix, exchange.received_trace_headers)
        span = None
        if self._observer is not None and self._observer.spans is not None:
            method = server_scope["method"]
            span, trace = self._observer.spans.start(method, prefix, scope, trace)
        scope[TRACE_KEY] = trace
        exchange.trace_headers = headers_of(trace)
        try:
            _admit(scope["path"] if prefix != METRICS_PATH else prefix, exchange)
            if mounted is None:
                raise NotFoundException  # noqa: TRY301 - handled below like any other error
            await mounted(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:  # the grace period of the shutdown is over
            if not exchange.status:
                await self._send_error(AppendOutcomeUnknown(_STOPPED), scope, prefix, exchange.send)
            raise
        except Exception as error:
            if exchange.status:
                raise
            await self._send_error(error, scope, prefix, exchange.send)
        finally:
            exchange.release()
            if self._observer is not None:
                seconds = (exchange.started_at or time.perf_counter()) - arrived_at
                method = server_scope["method"]
                self._observer.observe(method, prefix, scope, exchange.status, seconds, span)
        if exchange.unfinished:
            await exchange.finish()

    def _route(self, server_scope: Scope) -> tuple[Scope, str, ASGIApp | None]:
        """A copy of the scope with the path below its mount, the mount's prefix, and the mount.

        The server's scope is not changed, since its access log reads it. The headers are copied
        because a parser may append the trailer fields of a chunked body to its own list. The copy
        has an empty root path: Litestar would remove a root path wherever a path contains it.
        """
        path: str = server_scope["path"]
        raw_path: bytes = server_scope.get("raw_path") or path.encode()
        headers: RawHeaders = [*server_scope["headers"]]
        root_path: str = server_scope.get("root_path") or ""
        if root_path:
            path = path.removeprefix(root_path)
            raw_path = raw_path.removeprefix(root_path.encode())
        if not raw_path.startswith(b"/"):
            path, raw_path, headers = _from_absolute_form(path, raw_path, headers)
        if b"%" in raw_path:
            path = _keep_encoded_slashes(path, raw_path)
        prefix, mounted = self._mount_for(path)
        scope = {
            **server_scope,
            "headers": headers,
            "root_path": "",
            "path": path[len(prefix) :] or "/",
            "raw_path": raw_path,
        }
        return scope, prefix, mounted

    async def _send_error(self, error: Exception, scope: Scope, prefix: str, send: Send) -> None:
        status, body = answer_for(error)
        if prefix in self._pages and _prefers_page(scope):
            media_type, content = _HTML, _plain_page(status, body, scope[TRACE_KEY].trace_id)
        else:
            media_type, content = JSON, msgspec.json.encode(ErrorResponse(body))
        headers = {
            "content-type": media_type,
            "content-length": str(len(content)),
            **error_headers(status, body),
        }
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": content, "more_body": False})

    def _mount_for(self, path: str) -> tuple[str, ASGIApp | None]:
        for prefix, mounted in self._mounts.items():
            if path.startswith(prefix) and path[len(prefix) :][:1] in {"", "/"}:
                return prefix, mounted
        return "", None


def _from_absolute_form(
    path: str, raw_path: bytes, headers: RawHeaders
) -> tuple[str, bytes, RawHeaders]:
    """Path and headers of a target in absolute form, as in `GET http://host/path`.

    The authority of the target overrides Host (RFC 9112, section 3.2.2).
    """
    absolute = _ABSOLUTE_FORM.fullmatch(raw_path)
    if absolute is None:
        return path, raw_path, headers
    raw_path = absolute[2] or b"/"
    headers = [header for header in headers if header[0] != b"host"]
    return unquote(raw_path.decode("latin-1")), raw_path, [*headers, (b"host", absolute[1])]


def _keep_encoded_slashes(path: str, raw_path: bytes) -> str:
    """The decoded path, in which `%2F` stays encoded: it is part of a name, not a separator."""
    if not _ENCODED_SLASH.search(raw_path):
        return path
    return unquote(_ENCODED_SLASH.sub(b"%252F", raw_path).decode("latin-1"))


def _admit(path: str, exchange: Exchange) -> None:
    if not exchange.only_chunked:
        raise BadRequest(
            "the body has a transfer coding that Pulse does not support: send it with "
            "Content-Length, or only with Transfer-Encoding: chunked",
            expected="chunked",
        )
    if path not in HEALTH_PATHS and path != METRICS_PATH:
        exchange.admit()


def _prefers_page(scope: Scope) -> bool:
    accept = [value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"]
    return preferred_type(accept, (JSON, "text/html")) == "text/html"


def _plain_page(status: int, body: ErrorBody, trace_id: str) -> bytes:
    message = escape(body.message[:1].upper() + body.message[1:])
    page = _PAGE.format(
        message=message, status=status, code=escape(body.code), trace_id=escape(trace_id)
    )
    return page.encode()

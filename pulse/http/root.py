"""The outermost ASGI application: lifespan, mounts, admission, errors that nothing else caught."""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final
from urllib.parse import unquote

import msgspec
import structlog
from litestar.exceptions import NotFoundException

from pulse.errors import PulseError
from pulse.eventstore import AppendOutcomeUnknown
from pulse.http.asgi import TRACE_KEY, ASGIApp, RawHeaders, Receive, Scope, Send
from pulse.http.errors import JSON, BadRequest, ErrorResponse, answer_for, error_headers
from pulse.http.exchange import Exchange
from pulse.http.limits import HEALTH_PATHS, Admission, Limits
from pulse.http.tracing import headers_of, trace_of

_log = structlog.get_logger(__name__)

_ABSOLUTE_TARGET: Final = re.compile(rb"https?://([^/?#@]+)(/.*)?", re.IGNORECASE | re.DOTALL)
_ENCODED_SLASH: Final = re.compile(rb"%2f", re.IGNORECASE)
_STOPPED: Final = "Pulse stopped before the answer was there"
_MILLISECONDS: Final = 1000

Mounts = Mapping[str, ASGIApp]
"""Applications by the prefix of their paths; the empty prefix is every path."""


class Root:
    """Opens what the process is composed of, and hands each request to its mount.

    With `log_requests` each request leaves a debug line with its status and duration.
    """

    def __init__(
        self,
        open_mounts: Callable[[], AbstractAsyncContextManager[Mounts]],
        limits: Limits | None = None,
        *,
        log_requests: bool = False,
    ) -> None:
        self._open_mounts = open_mounts
        self._admission = Admission(limits or Limits())
        self._log_requests = log_requests
        self._mounts: Mounts = {}

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
                await send({"type": "lifespan.startup.complete"})
                stage = "shutdown"
                await receive()
        except PulseError as error:
            await send({"type": f"lifespan.{stage}.failed", "message": str(error)})
        except Exception:  # noqa: BLE001 - a server may take a raise for "knows no lifespan"
            _log.exception("lifespan.crashed", stage=stage)
            message = f"Pulse crashed at {stage}; the fault is logged"
            await send({"type": f"lifespan.{stage}.failed", "message": message})
        else:
            await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, server_scope: Scope, receive: Receive, send: Send) -> None:
        begun = time.perf_counter() if self._log_requests else 0.0
        scope, prefix, mounted = self._routed(server_scope)
        exchange = Exchange(scope, receive, send, self._admission)
        raw_path: bytes = scope["raw_path"]
        trace = trace_of(server_scope["method"], raw_path, prefix, exchange.given_trace)
        scope[TRACE_KEY] = trace
        exchange.trace_headers = headers_of(trace)
        try:
            _admit(scope["path"], exchange)
            if mounted is None:
                raise NotFoundException  # noqa: TRY301 - answered below like any other fault
            await mounted(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:  # the grace of a stop is over
            if not exchange.status:
                await _send_error(AppendOutcomeUnknown(_STOPPED), exchange.send)
            raise
        except Exception as error:
            if exchange.status:
                raise
            await _send_error(error, exchange.send)
        finally:
            exchange.release()
            if self._log_requests:
                milliseconds = round((time.perf_counter() - begun) * _MILLISECONDS, 3)
                _log.debug("http.answered", status=exchange.status, milliseconds=milliseconds)
        if exchange.unfinished:
            await exchange.finish()

    def _routed(self, server_scope: Scope) -> tuple[Scope, str, ASGIApp | None]:
        """A scope of our own, whose path is below its mount; the mount's prefix, and the mount.

        The server's scope stays as it is: its access log reads it. The headers are copied because a
        parser may append a chunked body's trailer fields to its own list. The root path is empty in
        the copy: Litestar would cut it wherever it occurs in a path.
        """
        path: str = server_scope["path"]
        raw_path: bytes = server_scope.get("raw_path") or path.encode()
        headers: RawHeaders = [*server_scope["headers"]]
        root_path: str = server_scope.get("root_path") or ""
        if root_path:
            path = path.removeprefix(root_path)
            raw_path = raw_path.removeprefix(root_path.encode())
        if not raw_path.startswith(b"/"):
            path, raw_path, headers = _of_absolute_target(path, raw_path, headers)
        if b"%" in raw_path:
            path = _keeping_encoded_slashes(path, raw_path)
        prefix, mounted = self._mount_for(path)
        scope = {
            **server_scope,
            "headers": headers,
            "root_path": "",
            "path": path[len(prefix) :] or "/",
            "raw_path": raw_path,
        }
        return scope, prefix, mounted

    def _mount_for(self, path: str) -> tuple[str, ASGIApp | None]:
        for prefix, mounted in self._mounts.items():
            if path.startswith(prefix) and path[len(prefix) :][:1] in {"", "/"}:
                return prefix, mounted
        return "", None


def _of_absolute_target(
    path: str, raw_path: bytes, headers: RawHeaders
) -> tuple[str, bytes, RawHeaders]:
    """The path and headers of `GET http://host/path`.

    The target's authority counts, whatever Host says (RFC 9112, section 3.2.2).
    """
    absolute = _ABSOLUTE_TARGET.fullmatch(raw_path)
    if absolute is None:
        return path, raw_path, headers
    raw_path = absolute[2] or b"/"
    headers = [header for header in headers if header[0] != b"host"]
    return unquote(raw_path.decode("latin-1")), raw_path, [*headers, (b"host", absolute[1])]


def _keeping_encoded_slashes(path: str, raw_path: bytes) -> str:
    """The path in which a slash that came as `%2F` is part of a name and divides nothing."""
    if not _ENCODED_SLASH.search(raw_path):
        return path
    return unquote(_ENCODED_SLASH.sub(b"%252F", raw_path).decode("latin-1"))


def _admit(path: str, exchange: Exchange) -> None:
    if not exchange.chunked_alone:
        raise BadRequest(
            "the body has a transfer coding that Pulse does not read: send it with "
            "Content-Length, or with Transfer-Encoding: chunked alone",
            expected="chunked",
        )
    if path not in HEALTH_PATHS:
        exchange.require_room()


async def _send_error(error: Exception, send: Send) -> None:
    status, body = answer_for(error)
    content = msgspec.json.encode(ErrorResponse(body))
    headers = {
        "content-type": JSON,
        "content-length": str(len(content)),
        **error_headers(status, body),
    }
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": content, "more_body": False})

"""The outermost ASGI application: lifespan, mounts, tracing, limits, the last catch of faults."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final
from urllib.parse import unquote

import structlog
from litestar.exceptions import NotFoundException

from pulse.errors import PulseError
from pulse.eventstore import AppendOutcomeUnknown
from pulse.http.errors import JSON, BadRequest, answer_for, encode_error, error_headers
from pulse.http.incoming import BodiesInProgress, Incoming
from pulse.http.limits import (
    BATCH_PATH,
    HEALTH_PATHS,
    MAX_BATCH_BYTES,
    MAX_ORDER_BYTES,
    Limits,
    TooBusy,
)
from pulse.http.log_context import bind_request
from pulse.http.outgoing import Outgoing
from pulse.http.tracing import SCOPE_KEY, headers_of, trace_of

_log = structlog.get_logger(__name__)

_ABSOLUTE_TARGET = re.compile(rb"https?://([^/?#@]+)(/.*)?", re.IGNORECASE | re.DOTALL)
_ENCODED_SLASH = re.compile(rb"%2f", re.IGNORECASE)

DEFAULT_LIMITS: Final = Limits()
_STOPPED: Final = "Pulse stopped before the answer was there"
_END: Final = {"type": "http.response.body", "body": b"", "more_body": False}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
ASGIApp = Callable[[Any, Receive, Send], Awaitable[None]]

Mounts = Mapping[str, ASGIApp]
"""Applications by the prefix they live under; the empty prefix is the whole tree."""


class Root:
    """Opens the process's world for the server's lifespan and hands each request to its mount."""

    def __init__(
        self,
        open_world: Callable[[], AbstractAsyncContextManager[Mounts]],
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._open_world = open_world
        self._limits = limits
        self._bodies = BodiesInProgress(limits.body_seconds, limits.bodies_in_progress)
        self._in_flight = 0
        self._mounts: Mounts = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._request(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        stage = "startup"
        try:
            async with self._open_world() as self._mounts:
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

    async def _request(self, server_scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. The server's own scope stays as it is: its access log reads it."""
        scope = _own_scope(server_scope)
        most_bytes = MAX_BATCH_BYTES if scope["path"].endswith(BATCH_PATH) else MAX_ORDER_BYTES
        incoming = Incoming(receive, scope, self._bodies, most_bytes, self._admit)
        try:
            unfinished = await self._answer(scope, incoming, send)
        finally:
            self._bodies.discard(incoming)
            self._release(incoming)
        if unfinished:
            await incoming.linger()
            await send(_END)

    def _admit(self, incoming: Incoming) -> None:
        """Count a request that is here whole.

        Raises:
            TooBusy: the process has as many as it takes.
        """
        self._require_room()
        self._in_flight += incoming.weight
        incoming.admitted = True

    def _release(self, incoming: Incoming) -> None:
        """Stop counting it when its answer begins: a caller that does not read blocks no other."""
        if incoming.admitted:
            incoming.admitted = False
            self._in_flight -= incoming.weight

    def _require_room(self) -> None:
        if self._in_flight >= self._limits.requests_in_flight:
            raise TooBusy

    async def _answer(self, scope: Scope, incoming: Incoming, send: Send) -> bool:
        """Answer, and return whether the answer's end is still to be sent."""
        raw_path: bytes = scope["raw_path"]
        prefix, mounted = self._mount_for(scope["path"])
        path = raw_path.decode("latin-1").removeprefix(prefix)
        trace = trace_of(scope["method"], path, scope["headers"])
        scope[SCOPE_KEY] = trace
        outgoing = Outgoing(send, scope, incoming, headers_of(trace), self._release)
        bind_request(trace, scope["method"], raw_path)
        try:
            scope["path"] = scope["path"][len(prefix) :] or "/"
            if not incoming.whole:
                _require_chunked_alone(scope)
            if scope["path"] not in HEALTH_PATHS:
                if incoming.whole:
                    self._admit(incoming)
                else:
                    self._require_room()
            if mounted is None:
                raise NotFoundException  # noqa: TRY301 - answered below like any other fault
            await mounted(scope, incoming.receive, outgoing.send)
        except asyncio.CancelledError:  # the grace of a stop is over
            if not outgoing.started:
                await _send_error(AppendOutcomeUnknown(_STOPPED), outgoing.send)
            raise
        except Exception as error:
            if outgoing.started:
                raise
            await _send_error(error, outgoing.send)
        return outgoing.unfinished

    def _mount_for(self, path: str) -> tuple[str, ASGIApp | None]:
        for prefix, mounted in self._mounts.items():
            if path == prefix or path.startswith(f"{prefix}/"):
                return prefix, mounted
        return "", None


def _own_scope(server_scope: Scope) -> Scope:
    """A copy whose path is below the server's root path.

    The headers are copied because a parser may append a chunked body's trailer fields to its own
    list. The root path is empty in the copy: Litestar would cut it wherever it occurs in a path.
    """
    root_path: str = server_scope.get("root_path") or ""
    path: str = server_scope["path"].removeprefix(root_path)
    raw_path: bytes = server_scope.get("raw_path") or server_scope["path"].encode()
    raw_path = raw_path.removeprefix(root_path.encode())
    headers = list(server_scope["headers"])
    absolute = _ABSOLUTE_TARGET.fullmatch(raw_path)
    if absolute:  # RFC 9112, 3.2.2: its authority counts, whatever Host says
        raw_path = absolute[2] or b"/"
        path = unquote(raw_path.decode("latin-1"))
        headers = [header for header in headers if header[0] != b"host"]
        headers.append((b"host", absolute[1]))
    return {
        **server_scope,
        "headers": headers,
        "root_path": "",
        "path": _keeping_encoded_slashes(path, raw_path),
        "raw_path": raw_path,
    }


def _require_chunked_alone(scope: Scope) -> None:
    """Refuse other transfer codings: a proxy in front may read their framing differently."""
    for name, value in scope["headers"]:
        if name == b"transfer-encoding" and value.strip().lower() != b"chunked":
            raise BadRequest(
                "the body has a transfer coding that Pulse does not read: send it with "
                "Content-Length, or with Transfer-Encoding: chunked alone",
                expected="chunked",
            )


def _keeping_encoded_slashes(path: str, raw_path: bytes) -> str:
    """The path in which a slash that came as `%2F` is part of a name and divides nothing."""
    if not _ENCODED_SLASH.search(raw_path):
        return path
    return unquote(_ENCODED_SLASH.sub(b"%252F", raw_path).decode("latin-1"))


async def _send_error(error: Exception, send: Send) -> None:
    status, body = answer_for(error)
    content = encode_error(body)
    headers = {
        "content-type": JSON,
        "content-length": str(len(content)),
        **error_headers(status, body),
    }
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": content, "more_body": False})

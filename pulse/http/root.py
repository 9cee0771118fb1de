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
from pulse.http.errors import JSON, answer_for, encode_error, error_headers
from pulse.http.incoming import Incoming
from pulse.http.limits import (
    BATCH_PATH,
    HEALTH_PATHS,
    MAX_BATCH_BYTES,
    MAX_ORDER_BYTES,
    Limits,
    TooBusy,
)
from pulse.http.outgoing import Outgoing
from pulse.http.tracing import SCOPE_KEY, headers_of, trace_of

_log = structlog.get_logger(__name__)

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

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        most_bytes = MAX_BATCH_BYTES if scope["path"].endswith(BATCH_PATH) else MAX_ORDER_BYTES
        incoming = Incoming(receive, scope["headers"], self._limits.body_seconds, most_bytes)
        busy = self._in_flight >= self._limits.requests_in_flight
        weight = incoming.weight
        self._in_flight += weight
        try:
            unfinished = await self._answer(scope, incoming, send, busy=busy)
        finally:
            self._in_flight -= weight
        if unfinished:
            await incoming.linger()
            await send(_END)

    async def _answer(self, scope: Scope, incoming: Incoming, send: Send, *, busy: bool) -> bool:
        """Answer, and return whether the answer's end is still to be sent."""
        raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        scope["path"] = _keeping_encoded_slashes(scope["path"], raw_path)
        prefix, mounted = self._mount_for(scope["path"])
        path = raw_path.decode("latin-1").removeprefix(prefix)
        trace = trace_of(scope["method"], path, scope["headers"])
        scope[SCOPE_KEY] = trace
        outgoing = Outgoing(send, scope, incoming, headers_of(trace))
        structlog.contextvars.bind_contextvars(trace_id=trace.trace_id)
        try:
            scope["path"] = scope["path"][len(prefix) :] or "/"
            # Litestar would cut all up to a root path, wherever that stands, and route the rest.
            scope["root_path"] = ""
            if busy and scope["path"] not in HEALTH_PATHS:
                raise TooBusy  # noqa: TRY301 - answered below like any other fault
            if mounted is None:
                raise NotFoundException  # noqa: TRY301 - same
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

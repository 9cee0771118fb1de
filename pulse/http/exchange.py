"""One request and its response: limits on the body, admission, headers of every response."""

import asyncio
import time
from collections.abc import Awaitable
from typing import Any, Final

from pulse.errors import PulseError
from pulse.http.asgi import (
    HEAD_KEY,
    POSITION_KEY,
    SECURITY_HEADERS,
    SECURITY_HEADERS_KEY,
    Message,
    RawHeaders,
    Receive,
    Scope,
    Send,
    caller_name,
)
from pulse.http.limits import (
    BATCH_PATH,
    MAX_BATCH_BYTES,
    MAX_ORDER_BYTES,
    Admission,
    ClientDisconnected,
)
from pulse.http.tracing import TRACE_HEADERS, W3C_HEADERS

POSITION_HEADER: Final = b"x-pulse-position"
_MAX_DRAIN_SECONDS: Final = 1.0
_MAX_DRAIN_BYTES: Final = 16 * 1024 * 1024
_MAX_DIGITS: Final = 20
_WITHOUT_BODY: Final = frozenset(("GET", "HEAD", "OPTIONS"))
_READ: Final = TRACE_HEADERS | {b"content-length", b"transfer-encoding", b"upgrade"}
_CLOSE: Final = (b"connection", b"close")
_END: Final = {"type": "http.response.body", "body": b"", "more_body": False}


class Exchange:
    """Wraps the ASGI `receive` and `send` of one request.

    The request's body must be complete in time. The request is admitted when its body is complete,
    before the application receives the last part. HEAD is processed as GET, and the response has no
    body. A response that is sent before a large body is complete closes the connection. So does the
    response to a request with an Upgrade header, so that no later byte is read as another protocol.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, admission: Admission) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._admission = admission
        self._admitted = self._waiting = self.unfinished = self._upgrade = False
        self._body_error: PulseError | None = None
        self._task: asyncio.Task[Any] | None = None
        self.status = 0
        """The status of the response; 0 until the response starts."""
        self.started_at = 0.0
        """When the response started, by time.perf_counter."""
        self.trace_headers: RawHeaders = []
        self.received_trace_headers: dict[bytes, bytes] = {}
        self.only_chunked = True
        """Whether the body has no transfer coding except chunked. Parsers differ about others."""
        self.body_complete = True
        """Whether the whole body has arrived."""
        self._length = -1
        for name, value in scope["headers"]:
            if name in _READ:
                self._read_header(name, value)
        method = scope["method"]
        if scope["http_version"] == "2" and method not in _WITHOUT_BODY:
            self.body_complete = False  # in HTTP/2 the body ends with its stream
        if self._length < 0:
            self._length = 0 if self.body_complete else MAX_BATCH_BYTES
        self.weight = 1
        """How many requests this counts as: one, and one more for each 64 KiB of its body."""
        if self._length >= MAX_ORDER_BYTES:
            is_batch = scope["path"].endswith(BATCH_PATH)
            most = MAX_BATCH_BYTES if is_batch else MAX_ORDER_BYTES
            self.weight += min(self._length, most) // MAX_ORDER_BYTES
        self._head = method == "HEAD"
        if self._head:
            scope["method"] = "GET"
            scope[HEAD_KEY] = True

    def _read_header(self, name: bytes, value: bytes) -> None:
        if name == b"content-length":
            readable = value.isdigit() and len(value) <= _MAX_DIGITS
            self._length = int(value) if readable else MAX_BATCH_BYTES
            self.body_complete = self._length == 0
        elif name == b"transfer-encoding":
            self._length, self.body_complete = MAX_BATCH_BYTES, False
            self.only_chunked = self.only_chunked and value.strip().lower() == b"chunked"
        elif name == b"upgrade":
            self._upgrade = True
        else:
            if name in W3C_HEADERS and name in self.received_trace_headers:
                value = self.received_trace_headers[name] + b"," + value
            self.received_trace_headers[name] = value

    @property
    def caller(self) -> str:
        """The name by which the caller's requests are counted."""
        return caller_name(self._scope)

    def admit(self) -> None:
        """Admit the request if its body is complete; otherwise check that the process is not full.

        Raises:
            TooBusy: as many requests are in flight as this process accepts.
        """
        if self.body_complete:
            self._admission.admit(self.weight)
            self._admitted = True
        else:
            self._admission.require_capacity()

    async def receive(self) -> Message:
        """ASGI's receive.

        Raises:
            BodyTooSlow: the body was not complete in time.
            ClientDisconnected: the connection closed before the body was complete.
            TooBusy: the body is complete and the process is full, or too many bodies are arriving.
        """
        if self.body_complete:
            return await self._receive()  # type: ignore[no-any-return]
        if self._task is None:
            self._task = asyncio.current_task(self._admission.loop)
            self._admission.begin_body(self)
        if self._body_error is not None:
            raise self._body_error
        self._waiting = True
        try:
            message: Message = await self._receive()
        except asyncio.CancelledError:
            if self._body_error is None or (self._task is not None and self._task.uncancel() > 0):
                raise
            raise self._body_error from None
        finally:
            self._waiting = False
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        if not message.get("more_body", False):
            self.body_complete = True
            self._admission.end_body(self)
            self.admit()
        return message

    def abort_body(self, error: PulseError) -> None:
        """Stop waiting for the rest of the body: `receive` raises this error."""
        self._body_error = error
        if self._waiting and self._task is not None:
            self._task.cancel()

    def send(self, message: Message) -> Awaitable[None]:
        """ASGI's send."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.started_at = time.perf_counter()
            self._release()  # a caller that does not read its response is no longer counted
            security = self._scope.get(SECURITY_HEADERS_KEY, SECURITY_HEADERS)
            headers = [*message.get("headers", ()), *self.trace_headers, *security]
            if POSITION_KEY in self._scope:
                headers.append((POSITION_HEADER, b"%d" % self._scope[POSITION_KEY]))
            if not self.body_complete and (self._body_error or self._length > MAX_ORDER_BYTES):
                headers.append(_CLOSE)
                self.unfinished = True
            elif self._upgrade:
                headers.append(_CLOSE)
            message["headers"] = headers
        else:
            if self._head:
                message["body"] = b""
            if self.unfinished:
                message["more_body"] = True
        return self._send(message)

    def _release(self) -> None:
        if self._admitted:
            self._admitted = False
            self._admission.release(self.weight)

    def release(self) -> None:
        """Stop counting the request, after the application has returned."""
        if not self.body_complete:
            self._admission.end_body(self)
        self._release()

    async def finish(self) -> None:
        """End an `unfinished` response: it was sent before a large or aborted body was complete.

        The rest of a large body is read and discarded for up to a second: closing a connection with
        unread bytes resets it, and the client may then lose the response.
        """
        if self._body_error is None:
            await self._drain()
        await self._send(_END)

    async def _drain(self) -> None:
        left = _MAX_DRAIN_BYTES
        try:
            async with asyncio.timeout(_MAX_DRAIN_SECONDS):
                while left > 0:
                    message = await self._receive()
                    if not message.get("more_body", False):
                        return
                    left -= len(message["body"])
        except TimeoutError:
            return


async def allow_head(message: Any, _: object) -> None:  # noqa: ANN401 - Litestar's messages
    """Add HEAD to an Allow header that has GET. Litestar calls this before it sends a response."""
    if message["type"] != "http.response.start":
        return
    headers = list(message["headers"])
    for index, (name, value) in enumerate(headers):
        methods = value.decode("latin-1").split(", ")
        if name.lower() == b"allow" and "GET" in methods:
            headers[index] = (name, ", ".join(sorted({*methods, "HEAD"})).encode())
            message["headers"] = headers

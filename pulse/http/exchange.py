"""One request and its answer: the bounds of the body, and the headers of every answer."""

import asyncio
from collections.abc import Awaitable
from typing import Any, Final

from pulse.errors import PulseError
from pulse.http.asgi import (
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
    CallerGone,
)
from pulse.http.tracing import TRACE_HEADERS

_DRAIN_SECONDS: Final = 1.0
_DRAIN_BYTES: Final = 16 * 1024 * 1024
_MAX_DIGITS: Final = 20
_WITHOUT_BODY: Final = frozenset(("GET", "HEAD", "OPTIONS"))
_READ: Final = TRACE_HEADERS | {b"content-length", b"transfer-encoding", b"upgrade"}
_CLOSE: Final = (b"connection", b"close")
_END: Final = {"type": "http.response.body", "body": b"", "more_body": False}


class Exchange:
    """The `receive` and `send` of one request.

    A body must be whole in time; the request is admitted when it is, before the application
    receives the last part. HEAD is answered as GET without the body. An answer before a large body
    is whole closes the connection. So does the answer to a request that offers an upgrade: no byte
    after it can be read as another protocol.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, admission: Admission) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._admission = admission
        self._admitted = self._waiting = self.unfinished = self._upgrade = False
        self._ended: PulseError | None = None
        self._task: asyncio.Task[Any] | None = None
        self.status = 0
        """Of the answer, once it has begun."""
        self.trace_headers: RawHeaders = []
        self.given_trace: dict[bytes, bytes] = {}
        self.chunked_alone = True
        """Whether no other transfer coding is declared: two parsers could read it differently."""
        self.whole = True
        """Whether no more of the body is to come."""
        self._length = -1
        for name, value in scope["headers"]:
            if name in _READ:
                self._read_header(name, value)
        method = scope["method"]
        if scope["http_version"] == "2" and method not in _WITHOUT_BODY:
            self.whole = False  # whatever is declared, the body ends with its stream
        if self._length < 0:
            self._length = 0 if self.whole else MAX_BATCH_BYTES
        self.weight = 1
        """How many requests it counts for: one, and one more for each 64 KiB it may hold."""
        if self._length >= MAX_ORDER_BYTES:
            is_batch = scope["path"].endswith(BATCH_PATH)
            most = MAX_BATCH_BYTES if is_batch else MAX_ORDER_BYTES
            self.weight += min(self._length, most) // MAX_ORDER_BYTES
        self._head = method == "HEAD"
        if self._head:
            scope["method"] = "GET"

    def _read_header(self, name: bytes, value: bytes) -> None:
        if name == b"content-length":
            readable = value.isdigit() and len(value) <= _MAX_DIGITS
            self._length = int(value) if readable else MAX_BATCH_BYTES
            self.whole = self._length == 0
        elif name == b"transfer-encoding":
            self._length, self.whole = MAX_BATCH_BYTES, False
            self.chunked_alone = self.chunked_alone and value.strip().lower() == b"chunked"
        elif name == b"upgrade":
            self._upgrade = True
        else:
            self.given_trace[name] = value

    @property
    def caller(self) -> str:
        """The name its requests are counted under."""
        return caller_name(self._scope)

    def require_room(self) -> None:
        """Admit the request if it is whole; until then only refuse it where the process is full.

        Raises:
            TooBusy: the process has as many requests as it takes.
        """
        if self.whole:
            self._admission.admit(self.weight)
            self._admitted = True
        else:
            self._admission.require_room()

    async def receive(self) -> Message:
        """ASGI's receive.

        Raises:
            BodyTooSlow: the body was not whole in time.
            CallerGone: the connection closed before it was whole.
            TooBusy: it is whole and the process is full; or too many bodies are arriving.
        """
        if self.whole:
            return await self._receive()  # type: ignore[no-any-return]
        if self._task is None:
            self._task = asyncio.current_task(self._admission.loop)
            self._admission.begin_body(self)
        if self._ended is not None:
            raise self._ended
        self._waiting = True
        try:
            message: Message = await self._receive()
        except asyncio.CancelledError:
            if self._ended is None or (self._task is not None and self._task.uncancel() > 0):
                raise
            raise self._ended from None
        finally:
            self._waiting = False
        if message["type"] == "http.disconnect":
            raise CallerGone
        if not message.get("more_body", False):
            self.whole = True
            self._admission.end_body(self)
            self.require_room()
        return message

    def end(self, error: PulseError) -> None:
        """Stop waiting for the rest of the body: `receive` raises this."""
        self._ended = error
        if self._waiting and self._task is not None:
            self._task.cancel()

    def send(self, message: Message) -> Awaitable[None]:
        """ASGI's send."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._release()  # a caller that does not read its answer takes no place
            security = self._scope.get(SECURITY_HEADERS_KEY, SECURITY_HEADERS)
            headers = [*message.get("headers", ()), *self.trace_headers, *security]
            if not self.whole and (self._ended or self._length > MAX_ORDER_BYTES):
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
        """The application has returned: nothing of the request is counted any more."""
        if not self.whole:
            self._admission.end_body(self)
        self._release()

    async def finish(self) -> None:
        """End an `unfinished` answer, one that came before a large body was whole.

        The rest of the body is read and discarded for up to a second: a connection closed over
        unread bytes is reset, which can overtake the answer.
        """
        if self._ended is None:
            await self._drain()
        await self._send(_END)

    async def _drain(self) -> None:
        left = _DRAIN_BYTES
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while left > 0:
                    message = await self._receive()
                    if not message.get("more_body", False):
                        return
                    left -= len(message["body"])
        except TimeoutError:
            return


async def allow_head(message: Any, _: object) -> None:  # noqa: ANN401 - Litestar's messages
    """Name HEAD in Allow wherever GET is; Litestar calls this before an answer is sent."""
    if message["type"] != "http.response.start":
        return
    headers = list(message["headers"])
    for place, (name, value) in enumerate(headers):
        methods = value.decode("latin-1").split(", ")
        if name.lower() == b"allow" and "GET" in methods:
            headers[place] = (name, ", ".join(sorted({*methods, "HEAD"})).encode())
            message["headers"] = headers

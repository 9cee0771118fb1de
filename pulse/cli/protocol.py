"""Uvicorn's HTTP protocol, with bounds on what the application never sees.

What is no HTTP is answered in the shape of every other error; a head may be only so large and take
only so long, and whoever does not read its answer is hung up on.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from pulse.cli.entrance import Capacity
from pulse.http.errors import JSON, NotHTTP, answer_for, encode_error
from pulse.http.security import SECURITY_HEADERS
from pulse.http.tracing import headers_of, trace_of

MOST_HEAD_BYTES: Final = 64 * 1024
HEAD_SECONDS: Final = 10.0
UNREAD_SECONDS: Final = 20.0
_KEPT_TIMES: Final = 2
"""Connecting anew costs more than an order, so those kept may fill the process twice over."""


class PulseProtocol(HttpToolsProtocol):
    """One connection; kept for more requests while twice `capacity` at most are in flight."""

    def __init__(
        self,
        *arguments: Any,  # noqa: ANN401 - uvicorn's own
        capacity: Capacity,
        **named: Any,  # noqa: ANN401 - same
    ) -> None:
        super().__init__(*arguments, **named)
        self._capacity = capacity
        self._in_head = False
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None

    @property
    def awaits_body(self) -> bool:
        """Whether a request has begun whose body is not here whole."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and cycle.more_body and not cycle.response_complete

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is here whole."""
        self._in_head = False
        self._head_bytes = 0
        self._stop_head_timer()
        super().on_headers_complete()
        if len(self.tasks) > _KEPT_TIMES * self._capacity.most:
            self.cycle.keep_alive = False

    def data_received(self, data: bytes) -> None:
        """Read on. What is left of a head after it is counted, and must come to its end in time."""
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > MOST_HEAD_BYTES:
            self.send_400_response("")
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def pause_writing(self) -> None:
        """The caller does not read: it has a while to begin."""
        super().pause_writing()
        if self._unread_timer is None:
            self._unread_timer = self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It does."""
        self._stop_unread_timer()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone, and with it what it was waited for."""
        self._stop_head_timer()
        self._stop_unread_timer()
        super().connection_lost(exc)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words are not ours
        """Answer bytes that are no HTTP, and hang up.

        A request that arrived whole before them is answered first and these bytes never: their
        answer would be taken for that request's.
        """
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            self.transport.write(_refusal())
        elif not cycle.more_body:
            cycle.keep_alive = False
            self.flow.pause_reading()
            return
        elif not (cycle.response_started or self.pipeline):
            self.transport.write(_refusal())
        self.transport.close()


def _refusal() -> bytes:
    status, body = answer_for(NotHTTP())
    content = encode_error(body)
    headers = [
        (b"content-type", JSON.encode()),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),
        *headers_of(trace_of("UNREADABLE", "", [])),
        *SECURITY_HEADERS,
    ]
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"HTTP/1.1 %d Bad Request\r\n%b\r\n%b" % (status, lines, content)

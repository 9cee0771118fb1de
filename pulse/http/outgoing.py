"""An answer on its way out: the headers of every answer, and a connection closed where it must."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from pulse.http.incoming import Incoming
from pulse.http.security import HEADERS_KEY, SECURITY_HEADERS, RawHeaders

_CLOSE: Final = (b"connection", b"close")

Message = MutableMapping[str, Any]


class Outgoing:
    """The `send` of one request; `on_start` is called when its answer begins.

    An answer that comes before a large body is whole closes the connection; its end is then sent by
    the caller of `send` after it has read on for a moment (`unfinished`). The answer to a request
    that offers an upgrade closes the connection too, so that no byte after it can be read as
    another protocol.
    """

    __slots__ = (
        "_incoming",
        "_on_start",
        "_scope",
        "_send",
        "_trace_headers",
        "started",
        "unfinished",
    )

    def __init__(
        self,
        send: Callable[[Message], Awaitable[None]],
        scope: MutableMapping[str, Any],
        incoming: Incoming,
        trace_headers: RawHeaders,
        on_start: Callable[[Incoming], None],
    ) -> None:
        self._send = send
        self._scope = scope
        self._incoming = incoming
        self._trace_headers = trace_headers
        self._on_start = on_start
        self.started = False
        self.unfinished = False

    async def send(self, message: Message) -> None:
        """ASGI's send."""
        if message["type"] == "http.response.start":
            self.started = True
            self._on_start(self._incoming)
            self._add_headers(message)
        elif self.unfinished and not message.get("more_body", False):
            message = {**message, "more_body": True}
        await self._send(message)

    def _add_headers(self, message: Message) -> None:
        security = self._scope.get(HEADERS_KEY, SECURITY_HEADERS)
        headers = [*message.get("headers", ()), *self._trace_headers, *security]
        if self._incoming.must_close:
            headers.append(_CLOSE)
            self.unfinished = True
        elif any(name == b"upgrade" for name, _ in self._scope["headers"]):
            headers.append(_CLOSE)
        message["headers"] = headers

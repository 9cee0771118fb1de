"""An answer on its way out: the headers of every answer, and a connection closed where it must."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from pulse.http.incoming import Incoming
from pulse.http.security import HEADERS_KEY, SECURITY_HEADERS, RawHeaders

_CLOSE: Final = (b"connection", b"close")

Message = MutableMapping[str, Any]


class Outgoing:
    """The `send` of one request.

    An answer that comes before a large body is whole closes the connection; its end is left to be
    sent by whoever has read on for a moment (`unfinished`).
    """

    __slots__ = ("_incoming", "_scope", "_send", "_trace_headers", "started", "unfinished")

    def __init__(
        self,
        send: Callable[[Message], Awaitable[None]],
        scope: MutableMapping[str, Any],
        incoming: Incoming,
        trace_headers: RawHeaders,
    ) -> None:
        self._send = send
        self._scope = scope
        self._incoming = incoming
        self._trace_headers = trace_headers
        self.started = False
        self.unfinished = False

    async def send(self, message: Message) -> None:
        """ASGI's send."""
        if message["type"] == "http.response.start":
            self.started = True
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
        message["headers"] = headers

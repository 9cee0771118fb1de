"""The busiest calls, to post an order and to read one, answered without the framework in between.

The framework's routing, request and response objects cost twice what Pulse itself does for an order
up to storing it (docs/performance.md). Its routes stand all the same, for paths in another spelling
and for what other methods are told; both answer by one function.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from pulse.http.answers import PlacedBody
from pulse.http.asgi import ASGIApp, Receive, Scope, Send
from pulse.http.bodies import require_json, require_unencoded
from pulse.http.errors import JSON, TOO_LARGE, BadRequest
from pulse.http.limits import MAX_ORDER_BYTES, CallerGone

_JSON_TYPE: Final = (b"content-type", JSON.encode())
_MOST_DIGITS: Final = 20
_OK: Final = 200
_ORDER_ID: Final = re.compile(r"[0-9A-Fa-f-]{36}")

Place = Callable[[Scope, Receive], Awaitable[tuple[int, PlacedBody]]]
"""Takes a request that has passed the door; returns the status and the body of its answer."""


Read = Callable[[Scope, str], Awaitable[object]]
"""Takes a request that has passed the door, and the order's id as it was sent; returns the body."""


class BusiestCalls:
    """POST on that very path is answered by `place`, GET of an id below it by `read`.

    Everything else by the framework.
    """

    def __init__(self, path: str, place: Place, read: Read, framework: ASGIApp) -> None:
        self._path = path
        self._below = f"{path}/"
        self._place = place
        self._read = read
        self._framework = framework

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Whatever either raises is left to who turns errors into answers."""
        path, method = scope["path"], scope["method"]
        answer: object
        if scope["query_string"]:  # neither call takes a parameter; the framework refuses them
            await self._framework(scope, receive, send)
            return
        if method == "POST" and path == self._path:
            status, answer = await self._place(scope, receive)
        elif method == "GET" and (order_id := self._order_id_in(path)):
            status, answer = _OK, await self._read(scope, order_id)
        else:
            await self._framework(scope, receive, send)
            return
        body = msgspec.json.encode(answer)
        headers = [_JSON_TYPE, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    def _order_id_in(self, path: str) -> str | None:
        below = path.removeprefix(self._below)
        return below if below != path and _ORDER_ID.fullmatch(below) else None


async def order_body(scope: Any, receive: Any) -> bytes:  # noqa: ANN401 - of any ASGI dialect
    """The body of an order, as it came.

    Raises:
        BadRequest: it does not say that it is JSON, is encoded, or is larger than an order may be;
            what is too large by its own account is not read.
        CallerGone: the caller hung up before it was whole.
    """
    declared = b"0"
    content_type = b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            content_type = content_type or value
        elif name == b"content-length":
            declared = value
        elif name == b"content-encoding":
            require_unencoded(value)
    require_json(content_type.decode("latin-1"))
    if len(declared) > _MOST_DIGITS or (declared.isdigit() and int(declared) > MAX_ORDER_BYTES):
        raise _too_large()
    body: bytes = b""
    while True:
        message: dict[str, Any] = await receive()
        if message["type"] == "http.disconnect":
            raise CallerGone
        body += message.get("body", b"")
        if len(body) > MAX_ORDER_BYTES:
            raise _too_large()
        if not message.get("more_body", False):
            return body


def _too_large() -> BadRequest:
    return BadRequest(TOO_LARGE, status=413, code="PAYLOAD_TOO_LARGE")

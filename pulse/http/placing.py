"""Posting one order, the busiest call, answered without the framework in between.

The framework's routing, request and response objects cost twice what Pulse itself does for an order
up to storing it (docs/performance.md). Its route stands all the same, for paths in another spelling
and for what other methods are told; both answer by one function.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from pulse.http.answers import PlacedBody
from pulse.http.bodies import require_json
from pulse.http.errors import JSON, TOO_LARGE, BadRequest
from pulse.http.limits import MAX_ORDER_BYTES, CallerGone
from pulse.http.root import ASGIApp, Receive, Scope, Send

_JSON_TYPE: Final = (b"content-type", JSON.encode())
_MOST_DIGITS: Final = 20

Place = Callable[[Scope, Receive], Awaitable[tuple[int, PlacedBody]]]
"""Takes a request that has passed the door; returns the status and the body of its answer."""


class PlacesOrders:
    """POST on that very path is answered by `place`, everything else by the framework."""

    def __init__(self, path: str, place: Place, framework: ASGIApp) -> None:
        self._path = path
        self._place = place
        self._framework = framework

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Whatever `place` raises is left to who turns errors into answers."""
        if scope["path"] != self._path or scope["method"] != "POST":
            await self._framework(scope, receive, send)
            return
        status, answer = await self._place(scope, receive)
        body = msgspec.json.encode(answer)
        headers = [_JSON_TYPE, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


async def order_body(scope: Any, receive: Any) -> bytes:  # noqa: ANN401 - of any ASGI dialect
    """The body of an order, as it came.

    Raises:
        BadRequest: it does not say that it is JSON, or is larger than an order may be; what is too
            large by its own account is not read.
        CallerGone: the caller hung up before it was whole.
    """
    declared = b"0"
    content_type = b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            content_type = content_type or value
        elif name == b"content-length":
            declared = value
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

"""HEAD wherever GET works: the answer to GET, its Content-Length included, without the body."""

from litestar.types import Message
from litestar.types import Scope as LitestarScope

from pulse.http.root import ASGIApp, Receive, Scope, Send

_ALLOW = b"allow"


class HeadAsGet:
    """Has everything behind it, authentication and limits included, answer HEAD as GET."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_without_body(message: Scope) -> None:
            scope["method"] = "HEAD"  # the server uses it when it checks the length
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        scope["method"] = "GET"
        try:
            await self._app(scope, receive, send_without_body)
        finally:
            scope["method"] = "HEAD"  # what was raised is answered by the root


async def allow_head(message: Message, _: LitestarScope) -> None:
    """Litestar's hook before an answer is sent: Allow names HEAD wherever it names GET."""
    if message["type"] != "http.response.start":
        return
    headers = list(message["headers"])
    for place, (name, value) in enumerate(headers):
        methods = value.decode("latin-1").split(", ")
        if name.lower() == _ALLOW and "GET" in methods:
            headers[place] = (name, ", ".join(sorted({*methods, "HEAD"})).encode())
            message["headers"] = headers

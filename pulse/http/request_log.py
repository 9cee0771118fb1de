"""One debug line for each request: what was answered, and how long that took."""

import time
from typing import Final

import structlog

from pulse.http.root import Receive, Root, Scope, Send

_log = structlog.get_logger(__name__)
_MILLISECONDS: Final = 1000


class LoggedRoot(Root):
    """The root of a process whose log level is debug; others use Root, without this cost."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        begun = time.perf_counter()
        status = None

        async def noting_status(message: Scope) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await super().__call__(scope, receive, noting_status)
        finally:
            taken = (time.perf_counter() - begun) * _MILLISECONDS
            _log.debug("http.answered", status=status, milliseconds=round(taken, 3))

"""An application whose callers may ask only so often."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from pulse.http.limits import HEALTH_PATHS, RateLimiter

Scope = MutableMapping[str, Any]
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]


class RateLimited:
    """Counts each request but those for health under its caller's name, before it is looked at."""

    def __init__(self, app: ASGIApp, limiter: RateLimiter) -> None:
        self._app = app
        self._limiter = limiter

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:  # noqa: ANN401
        """ASGI.

        Raises:
            TooManyRequests: the caller's allowance is used up.
        """
        if scope["path"] not in HEALTH_PATHS:
            self._limiter.admit(peer_of(scope))
        await self._app(scope, receive, send)


def peer_of(scope: Scope) -> str:
    """The address of whoever asks, as the server tells it."""
    client = scope.get("client")
    return str(client[0]) if client else ""

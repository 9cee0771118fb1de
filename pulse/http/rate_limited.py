"""An application whose callers may ask only so often."""

from pulse.application import Caller
from pulse.http.callers import CALLER_KEY
from pulse.http.limits import RateLimiter
from pulse.http.root import ASGIApp, Receive, Scope, Send

_ANYONE = Caller()


class RateLimited:
    """Counts each request that a door let through under its caller's name, before it is read.

    What a door does not guard, health and what explains the API, is not counted.
    """

    def __init__(self, app: ASGIApp, limiter: RateLimiter) -> None:
        self._app = app
        self._limiter = limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI.

        Raises:
            TooManyRequests: the caller's allowance is used up.
        """
        caller = scope.get(CALLER_KEY)
        if caller is not None:
            self._limiter.admit(peer_of(scope) if caller == _ANYONE else caller.placed_by)
        await self._app(scope, receive, send)


def peer_of(scope: Scope) -> str:
    """The address of whoever asks, as the server tells it: where callers have no names."""
    client = scope.get("client")
    return str(client[0]) if client else ""

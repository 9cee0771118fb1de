"""An application whose callers may ask only so often."""

from collections import Counter

from pulse.http.callers import CALLER_KEY, caller_name
from pulse.http.limits import RateLimiter, TooManyAtOnce
from pulse.http.root import ASGIApp, Receive, Scope, Send


class RateLimited:
    """Counts each request that a door let through under its caller's name, before it is read.

    A caller may have `most_at_once` under way, so that one alone, however slowly it sends, cannot
    fill the process. What a door does not guard, health and what explains the API, is not counted.
    """

    def __init__(self, app: ASGIApp, limiter: RateLimiter, most_at_once: int) -> None:
        self._app = app
        self._limiter = limiter
        self._most_at_once = most_at_once
        self._under_way: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI.

        Raises:
            TooManyRequests: the caller's allowance is used up.
            TooManyAtOnce: it has as many under way as one caller may.
        """
        if scope.get(CALLER_KEY) is None:
            await self._app(scope, receive, send)
            return
        name = caller_name(scope)
        if self._under_way[name] >= self._most_at_once:
            raise TooManyAtOnce(self._most_at_once)
        self._limiter.admit(name)
        self._under_way[name] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._under_way[name] -= 1
            if not self._under_way[name]:
                del self._under_way[name]

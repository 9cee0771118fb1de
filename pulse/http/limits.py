"""The admission controls of HTTP: requests in flight, and a rate limit per caller.

Two more are below HTTP: the append queue (pulse/eventstore/appender.py) and the connection pool
(pulse/postgres). docs/reference/limits.md lists all four with their numbers.
"""

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from pulse.errors import PulseError
from pulse.http.asgi import CALLER_KEY, ASGIApp, Message, Receive, Scope, Send, caller_name

if TYPE_CHECKING:
    from pulse.http.exchange import Exchange

MAX_ORDER_BYTES: Final = 64 * 1024
MAX_BATCH_BYTES: Final = 2 * 1024 * 1024

BATCH_PATH: Final = "/orders/batch"
"""The end of the path that accepts a batch."""

HEALTH_PATHS: Final = frozenset(("/health", "/health/ready"))
"""Exempt from load shedding: health checks must not fail because the process is busy."""

_MAX_CALLERS: Final = 10_000


class AdmissionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one process.

    A request counts once, and once more for each 64 KiB of its body, so both counts bound memory
    too. It counts towards `bodies_in_progress` until its body is complete, at most for
    `body_seconds`, and then towards `requests_in_flight` until its response starts.
    """

    requests_in_flight: int = 1000
    bodies_in_progress: int = 1000
    body_seconds: float = 10.0


class TooBusy(PulseError):
    """As many requests are in flight as this process accepts; this one was not processed."""

    def __init__(self) -> None:
        super().__init__(
            "Pulse has too many requests in flight; this request was not processed: retry"
        )


class TooManyRequests(PulseError):
    """The caller exceeds its rate; `wait_seconds` is the time until the next request is allowed."""

    def __init__(self, per_second: float, wait_seconds: float) -> None:
        self.per_second = per_second
        self.wait_seconds = wait_seconds
        super().__init__(
            f"more than {per_second:g} requests per second; this request was not processed"
        )


class TooManyInFlight(PulseError):
    """The caller has as many requests in flight as one caller may."""

    def __init__(self, max_in_flight: int) -> None:
        super().__init__(
            f"more than {max_in_flight} requests of this caller in flight; "
            "this one was not processed"
        )


class BodyTooSlow(PulseError):
    """The body did not arrive in time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(
            f"the body did not arrive within {seconds:g} s; this request was not processed"
        )


class ClientDisconnected(PulseError):
    """The connection closed before the body was complete, so the response has no receiver."""

    def __init__(self) -> None:
        super().__init__(
            "the connection closed before the body was complete; this request was not processed"
        )


class Admission:
    """Load shedding: counts the requests in flight and the bodies that are arriving."""

    def __init__(self, limits: AdmissionLimits) -> None:
        self._limits = limits
        self._in_flight = 0
        self._bodies_weight = 0
        self._deadlines: dict[Exchange, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def in_flight(self) -> int:
        """How many requests are in flight; a large one counts more than once."""
        return self._in_flight

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop, cached: up to Python 3.11 getting it takes a system call."""
        self._loop = self._loop or asyncio.get_running_loop()
        return self._loop

    def require_capacity(self) -> None:
        """Refuse a request if the process is full.

        Raises:
            TooBusy: as many requests are in flight as this process accepts.
        """
        if self._in_flight >= self._limits.requests_in_flight:
            raise TooBusy

    def admit(self, weight: int) -> None:
        """Count a request whose body is complete.

        Raises:
            TooBusy: as many requests are in flight as this process accepts.
        """
        self.require_capacity()
        self._in_flight += weight

    def release(self, weight: int) -> None:
        """Stop counting a request."""
        self._in_flight -= weight

    def begin_body(self, body: "Exchange") -> None:
        """Count a body that is arriving.

        Beyond the limit, the oldest body of the caller that has the most is aborted, so a caller
        with many slow bodies only displaces its own.
        """
        loop = self.loop
        self._deadlines[body] = loop.time() + self._limits.body_seconds
        self._bodies_weight += body.weight
        while self._bodies_weight > self._limits.bodies_in_progress:
            callers = {each: each.caller for each in self._deadlines}
            ((most, _),) = Counter(callers.values()).most_common(1)
            oldest = next(each for each, caller in callers.items() if caller == most)
            self._end(oldest, TooBusy())
        if self._timer is None:
            self._timer = loop.call_later(self._limits.body_seconds, self._end_overdue)

    def end_body(self, body: "Exchange") -> None:
        """Stop counting a body: it is complete, or its request is answered."""
        if self._deadlines.pop(body, None) is not None:
            self._bodies_weight -= body.weight

    def _end(self, body: "Exchange", error: PulseError) -> None:
        self.end_body(body)
        body.abort_body(error)

    def _end_overdue(self) -> None:
        loop = self.loop
        self._timer = None
        for body, deadline in list(self._deadlines.items()):
            if deadline > loop.time():
                self._timer = loop.call_at(deadline, self._end_overdue)
                return
            self._end(body, BodyTooSlow(self._limits.body_seconds))


class RateLimiter:
    """A rate limit per caller, with bursts of up to `burst_seconds` worth of requests.

    The generic cell rate algorithm: for each caller it stores when its allowance is full again. It
    counts in this process only, for the 10,000 most recent callers.
    """

    def __init__(
        self,
        per_second: float,
        burst_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_second = per_second
        self._interval_seconds = 1 / per_second
        self._max_ahead_seconds = max(burst_seconds - self._interval_seconds, 0.0)
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def admit(self, caller: str) -> None:
        """Count a request of this caller.

        Raises:
            TooManyRequests: the caller exceeds its rate; the request is not counted.
        """
        now = self._clock()
        full_at = max(self._full_at.get(caller, now), now)
        wait_seconds = full_at - now - self._max_ahead_seconds
        if wait_seconds > 0:
            raise TooManyRequests(self._per_second, wait_seconds)
        self._full_at[caller] = full_at + self._interval_seconds
        self._full_at.move_to_end(caller)
        if len(self._full_at) > _MAX_CALLERS:
            self._full_at.popitem(last=False)


class RateLimitMiddleware:
    """Middleware that limits each caller's rate and its requests in flight.

    So a single caller, however slowly it sends, cannot use up the process. A request is in flight
    until its response starts, so an open event stream is not. Paths without authentication, such as
    health, are not limited.
    """

    def __init__(self, app: ASGIApp, limiter: RateLimiter, max_in_flight: int) -> None:
        self._app = app
        self._limiter = limiter
        self._max_in_flight = max_in_flight
        self._in_flight: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI.

        Raises:
            TooManyRequests: the caller exceeds its rate.
            TooManyInFlight: the caller has `max_in_flight` requests in flight.
        """
        if CALLER_KEY not in scope:
            await self._app(scope, receive, send)
            return
        name = caller_name(scope)
        if self._in_flight[name] >= self._max_in_flight:
            raise TooManyInFlight(self._max_in_flight)
        self._limiter.admit(name)
        self._in_flight[name] += 1
        counted = True

        def release() -> None:
            nonlocal counted
            if counted:
                counted = False
                self._in_flight[name] -= 1
                if not self._in_flight[name]:
                    del self._in_flight[name]

        async def send_releasing(message: Message) -> None:
            release()
            await send(message)

        try:
            await self._app(scope, receive, send_releasing)
        finally:
            release()

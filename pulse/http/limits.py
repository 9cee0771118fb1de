"""What one process takes at a time: requests in flight, and how often each caller may ask."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import msgspec

from pulse.errors import PulseError

MAX_ORDER_BYTES: Final = 64 * 1024
MAX_BATCH_BYTES: Final = 2 * 1024 * 1024

BATCH_PATH: Final = "/orders/batch"
"""How a path ends whose body may be a batch."""

HEALTH_PATHS: Final = frozenset(("/health", "/health/ready"))
"""Within no limit: whoever watches a process must not take a busy one for a dead one."""

_MOST_CALLERS: Final = 10_000


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much one process takes.

    Both counts take a request once, and a larger one once more for each 64 KiB of its body, so that
    they bound memory too. A body must be whole within `body_seconds`; until then its request counts
    among `bodies_in_progress`, from then on among `requests_in_flight`.
    """

    requests_in_flight: int = 1000
    bodies_in_progress: int = 1000
    body_seconds: float = 10.0


class TooBusy(PulseError):
    """As many requests are in flight as this process takes; this one was not looked at."""

    def __init__(self) -> None:
        super().__init__(
            "Pulse has too many requests in flight; this request was not processed, try again"
        )


class TooManyRequests(PulseError):
    """The caller asks more often than it may; the next request is in time after `wait_seconds`."""

    def __init__(self, per_second: float, wait_seconds: float) -> None:
        self.per_second = per_second
        self.wait_seconds = wait_seconds
        super().__init__(
            f"more than {per_second:g} requests a second; this request was not processed"
        )


class TooManyAtOnce(PulseError):
    """The caller has as many requests in flight as one caller may."""

    def __init__(self, most: int) -> None:
        super().__init__(
            f"more than {most} requests of this caller in flight; this one was not processed"
        )


class BodyTooSlow(PulseError):
    """The body did not arrive whole in time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(
            f"the body did not arrive within {seconds:g} s; this request was not processed"
        )


class CallerGone(PulseError):
    """The connection closed before the body was whole; no caller receives the answer."""

    def __init__(self) -> None:
        super().__init__("the body ended before it was whole; this request was not processed")


class RateLimiter:
    """So many requests a second for each caller, and some seconds' worth of them at once.

    It remembers of each caller one number: when the allowance is full again (the generic cell rate
    algorithm). It counts in this process alone, and knows the 10,000 callers it saw last.
    """

    def __init__(
        self,
        per_second: float,
        burst_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_second = per_second
        self._interval_seconds = 1 / per_second
        self._most_ahead_seconds = max(burst_seconds - self._interval_seconds, 0.0)
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def admit(self, caller: str) -> None:
        """Count a request of this caller.

        Raises:
            TooManyRequests: it comes too soon; it is not counted.
        """
        now = self._clock()
        full_at = max(self._full_at.get(caller, now), now)
        wait_seconds = full_at - now - self._most_ahead_seconds
        if wait_seconds > 0:
            raise TooManyRequests(self._per_second, wait_seconds)
        self._full_at[caller] = full_at + self._interval_seconds
        self._full_at.move_to_end(caller)
        if len(self._full_at) > _MOST_CALLERS:
            self._full_at.popitem(last=False)

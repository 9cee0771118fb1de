"""The retry policy: exponential backoff with full jitter, a cap and a deadline.

A loop uses one `Retry`, and resets it after each success:

    retry = Retry(RetryPolicy(first_seconds=0.1, max_seconds=2.0))
    while True:
        try:
            await work()
        except DatabaseUnavailable:
            await retry.wait()
        else:
            retry.reset()

A single call that must end sets `deadline_seconds` in the policy:

    retry = Retry(policy)
    while True:
        try:
            return await send()
        except ConnectionLost:
            if not await retry.wait():
                raise
"""

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from pulse import metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """The n-th pause is uniform between 0 and `first_seconds` * 2^(n - 1), capped at `max_seconds`.

    No pause ends later than `deadline_seconds` after the first attempt.
    """

    first_seconds: float
    max_seconds: float
    deadline_seconds: float = math.inf


class Retry:
    """The pauses between the attempts of one call, or of one loop until it succeeds.

    The default clock is the event loop's. `jitter` returns a number from 0 to 1.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        *,
        clock: Callable[[], float] | None = None,
        jitter: Callable[[], float] | None = None,
    ) -> None:
        self._policy = policy
        self._clock = clock or asyncio.get_running_loop().time
        self._jitter = jitter or random.random
        self.reset()

    def reset(self) -> None:
        """Start over after a success: the next pause is the first, and the deadline restarts."""
        self._bound_seconds = self._policy.first_seconds
        self._started_at = self._clock()

    def next_pause(self, *, at_least_seconds: float = 0.0) -> float | None:
        """Seconds to pause after a failure; None if the pause would end after the deadline.

        `at_least_seconds` is what the server asked for, as in a Retry-After header.
        """
        bound_seconds = min(self._bound_seconds, self._policy.max_seconds)
        self._bound_seconds = 2 * bound_seconds
        pause_seconds = max(bound_seconds * self._jitter(), at_least_seconds)
        elapsed_seconds = self._clock() - self._started_at
        if elapsed_seconds + pause_seconds > self._policy.deadline_seconds:
            return None
        metrics.RETRIES.inc()
        return pause_seconds

    async def wait(self, *, at_least_seconds: float = 0.0) -> bool:
        """Pause after a failure and return True; False at once if the deadline would pass."""
        pause_seconds = self.next_pause(at_least_seconds=at_least_seconds)
        if pause_seconds is None:
            return False
        await asyncio.sleep(pause_seconds)
        return True

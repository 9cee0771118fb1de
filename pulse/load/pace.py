"""How patient a load is: its waits and how often it asks again."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """The waits of a load, in seconds.

    A request is sent at most `attempts` times. Between two of them it waits as long as Retry-After
    says, or where that is absent `retry_delay_seconds`, doubled each time; never longer than
    `max_retry_delay_seconds`.
    """

    attempts: int = 6
    retry_delay_seconds: float = 0.2
    max_retry_delay_seconds: float = 30.0
    poll_interval_seconds: float = 0.5
    request_timeout_seconds: float = 30.0
    line_interval_seconds: float = 2.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def retry_delay(self, attempt: int, retry_after: str | None) -> float:
        """Seconds to wait after the `attempt`th try (from 1) failed.

        A Retry-After that is a date and not seconds counts as absent.
        """
        asked = (retry_after or "").strip()
        if asked.isascii() and asked.isdigit():
            delay = float(asked)
        else:
            delay = self.retry_delay_seconds * 2 ** (attempt - 1)
        return min(delay, self.max_retry_delay_seconds)


DEFAULT_PACE: Final = Pace()

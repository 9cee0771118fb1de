"""Waits for a condition, with a deadline that only a failing test reaches."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

DEADLINE_SECONDS = 20.0
_FIRST_SECONDS = 0.005
_MAX_SECONDS = 0.1


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Poll the condition until it is true."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            delays = backoff_delays()
            while not await condition():  # noqa: ASYNC110 - the condition is often outside this process
                await asyncio.sleep(next(delays))
    except TimeoutError:
        raise AssertionError(f"not within {DEADLINE_SECONDS:g} s: {what}") from None


def backoff_delays() -> Iterator[float]:
    """The delays between polls in seconds: exponential backoff, since polls use CPU time."""
    seconds = _FIRST_SECONDS
    while True:
        yield seconds
        seconds = min(seconds * 1.3, _MAX_SECONDS)

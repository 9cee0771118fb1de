"""Waits for a condition, with a deadline that only a failing test reaches."""

import asyncio
from collections.abc import Awaitable, Callable

DEADLINE_SECONDS = 20.0
_POLL_SECONDS = 0.005


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Poll the condition until it is true."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not await condition():  # noqa: ASYNC110 - the condition is often outside this process
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        raise AssertionError(f"not within {DEADLINE_SECONDS:g} s: {what}") from None

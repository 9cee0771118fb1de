"""Waiting for a condition, with a deadline that only a failing test meets."""

import asyncio
from collections.abc import Awaitable, Callable

DEADLINE_SECONDS = 20.0
_LOOK_AGAIN_SECONDS = 0.005


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Look until the condition holds."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not await condition():  # noqa: ASYNC110 - what is waited for is elsewhere
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)
    except TimeoutError:
        raise AssertionError(f"it never came about that {what}") from None

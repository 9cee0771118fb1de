"""Bounded concurrency: a few tasks that share one supply of items."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from pulse.load.errors import LoadError

T = TypeVar("T")


async def each(items: Iterable[T], work: Callable[[T], Awaitable[None]], concurrency: int) -> None:
    """Do `work` for every item, at most `concurrency` at once, in the items' order of starting.

    Raises:
        LoadError: raised by `work` or by the items; the work under way is cancelled.
    """
    supply = iter(items)

    async def drain() -> None:
        for item in supply:
            await work(item)

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(concurrency):
                tasks.create_task(drain())
    except ExceptionGroup as errors:
        first = errors.exceptions[0]
        raise first from (None if isinstance(first, LoadError) else errors)

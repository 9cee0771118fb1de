"""Someone who asks for the same thing again and again, whatever is answered, and notes how long."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp

from tests.faults.caller import BROKEN, Answer

_MOST_SECONDS = 30.0


@asynccontextmanager
async def asking(
    url: str, headers: Mapping[str, str], *, rate: float
) -> AsyncIterator[list[Answer]]:
    """Ask `url` at `rate` a second, open-loop, while in the block; the answers so far.

    On leaving nothing new is asked, and what is under way is waited for.
    """
    answers: list[Answer] = []
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(_MOST_SECONDS),
            headers=dict(headers),
        ) as http,
        asyncio.TaskGroup() as questions,
    ):

        async def ask_on() -> None:
            begun, number = time.monotonic(), 0
            while True:
                await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
                questions.create_task(_ask(http, url, answers))
                number += 1

        going_on = asyncio.ensure_future(ask_on())
        try:
            yield answers
        finally:
            going_on.cancel()
            await asyncio.wait({going_on})


async def _ask(http: aiohttp.ClientSession, url: str, answers: list[Answer]) -> None:
    sent_at = time.monotonic()
    status = BROKEN
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with http.get(url) as response:
            await response.read()
            status = response.status
    answers.append(Answer(sent_at, time.monotonic() - sent_at, status, None, url))

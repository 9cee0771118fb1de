"""Open-loop load of GET requests for one URL, with the latency of each."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp

from tests.faults.caller import BROKEN, Answer

_MAX_SECONDS = 30.0


@asynccontextmanager
async def repeated_get(
    url: str, headers: Mapping[str, str], *, rate: float
) -> AsyncIterator[list[Answer]]:
    """Send GET requests for `url` at `rate` per second, open-loop; yields the answers so far.

    On exit no new request starts, and those in flight are awaited.
    """
    answers: list[Answer] = []
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(_MAX_SECONDS),
            headers=dict(headers),
        ) as http,
        asyncio.TaskGroup() as requests,
    ):

        async def send_requests() -> None:
            begun, number = time.monotonic(), 0
            while True:
                await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
                requests.create_task(_get(http, url, answers))
                number += 1

        sending = asyncio.ensure_future(send_requests())
        try:
            yield answers
        finally:
            sending.cancel()
            await asyncio.wait({sending})


async def _get(http: aiohttp.ClientSession, url: str, answers: list[Answer]) -> None:
    sent_at = time.monotonic()
    status = BROKEN
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with http.get(url) as response:
            await response.read()
            status = response.status
    answers.append(Answer(sent_at, time.monotonic() - sent_at, status, None, url))

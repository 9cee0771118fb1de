"""Clients that read the log over HTTP and resume at their position after every failure."""

import asyncio
import contextlib
import itertools
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import aiohttp
import msgspec

from pulse.domain import HALTS_STREAM_ID

SeenEvent = tuple[int, UUID, int]
"""An event's position, order id and version."""

_PAGE: Final = 1000
_PAUSE_SECONDS: Final = 0.05


class SeenEvents:
    """The events that a reader saw, in that order, in 32 bytes each."""

    def __init__(self) -> None:
        self._numbers = array("q")
        self._ids = bytearray()

    def add(self, position: int, order_id: str | None, version: int) -> None:
        """Append an event."""
        self._numbers.append(position)
        self._numbers.append(version)
        self._ids += (HALTS_STREAM_ID if order_id is None else UUID(order_id)).bytes

    def __iter__(self) -> Iterator[SeenEvent]:
        for number in range(len(self._numbers) // 2):
            order_id = UUID(bytes=bytes(self._ids[16 * number : 16 * number + 16]))
            yield self._numbers[2 * number], order_id, self._numbers[2 * number + 1]


class LogReader:
    """Follows `/internal/events` through several APIs in turn."""

    def __init__(self, urls: Sequence[str], headers: Mapping[str, str], *, first: int = 0) -> None:
        self.seen = SeenEvents()
        self.wrong: list[str] = []
        self.after = 0
        self._urls = itertools.cycle([*urls[first:], *urls[:first]])
        self._headers = headers

    async def follow(self) -> None:
        """Read until cancelled."""
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(timeout=timeout, headers=dict(self._headers)) as http:
            while True:
                if await self._read_page(http) < _PAGE:
                    await asyncio.sleep(_PAUSE_SECONDS)

    async def until_at(self, position: int, seconds: float = 60.0) -> None:
        """Wait until `follow`, which runs in another task, has read up to that position."""
        async with asyncio.timeout(seconds):
            while self.after < position:
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _read_page(self, http: aiohttp.ClientSession) -> int:
        """Read one page; returns the number of its events, 0 after a failure."""
        url = f"{next(self._urls)}/internal/events?after={self.after}&limit={_PAGE}"
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with http.get(url) as response:
                body = await response.read()
                if response.status == 200:
                    return self._add_page(msgspec.json.decode(body))
                if response.status != 503:
                    self.wrong.append(f"{response.status} from {url}: {body[:300]!r}")
        return 0

    def _add_page(self, page: Any) -> int:
        for event in page["events"]:
            position = event["position"]
            if position <= self.after:
                self.wrong.append(f"position {position} came after {self.after}")
            self.seen.add(position, event["order_id"], event["version"])
            self.after = position
        if page["next_after"] < self.after:
            self.wrong.append(f"next_after {page['next_after']} is before {self.after}")
        return len(page["events"])

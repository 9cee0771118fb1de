"""Many callers' reads in one query: those that come while others are under way share the next."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from typing import Final, Generic, TypeVar

from pulse.postgres.database import DatabaseUnavailable

Key = TypeVar("Key")
Found = TypeVar("Found")

_MOST_UNDER_WAY: Final = 3
_MOST_KEYS: Final = 200
_MOST_SECONDS: Final = 3.0


class Gatherer(Generic[Key, Found]):
    """Reads by key. A few queries are under way at most, so that one that hangs holds up few.

    Who asks alone waits for nobody; nobody shares a query that had begun before he asked, so each
    reads what was committed by then. A query without an answer after `most_seconds` is given up:
    it may end when it likes, and another takes its place. So of 600 keys at once none waits longer
    than twice that, and each 600 more wait once longer, should all that is asked hang.
    """

    def __init__(
        self,
        fetch: Callable[[list[Key]], Awaitable[Mapping[Key, Found]]],
        *,
        most_seconds: float = _MOST_SECONDS,
    ) -> None:
        self._fetch = fetch
        self._most_seconds = most_seconds
        self._waiting: dict[Key, asyncio.Future[Found | None]] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._given_up: set[asyncio.Task[None]] = set()

    async def get(self, key: Key) -> Found | None:
        """What the query finds for that key.

        Raises:
            DatabaseUnavailable: no answer in time.

        What the query raises is raised to everybody who shares it.
        """
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = asyncio.get_running_loop().create_future()
            self._see_to_who_waits()
        return await asyncio.shield(waiting)  # who hangs up must not take it from the others

    def _see_to_who_waits(self) -> None:
        """While anybody waits somebody is at it: each ends only in the turn that finds nobody."""
        if self._waiting and len(self._under_way) < _MOST_UNDER_WAY:
            self._under_way.add(asyncio.create_task(self._fetch_while_asked()))

    async def _fetch_while_asked(self) -> None:
        loop, own = asyncio.get_running_loop(), asyncio.current_task()
        assert own is not None  # noqa: S101 - tells the type checker that this runs in a task
        try:
            while self._waiting and own in self._under_way:
                asked = dict(islice(self._waiting.items(), _MOST_KEYS))
                for key in asked:
                    del self._waiting[key]
                late = loop.call_later(self._most_seconds, self._give_up, own, asked)
                try:
                    await self._answer(asked)
                finally:
                    late.cancel()
        finally:
            self._under_way.discard(own)
            self._given_up.discard(own)

    async def _answer(self, asked: dict[Key, asyncio.Future[Found | None]]) -> None:
        try:
            found = await self._fetch(list(asked))
        except Exception as error:  # noqa: BLE001 - it is theirs who asked
            _tell(asked, error)
        except asyncio.CancelledError:  # the process ends: let nobody wait for it
            for waiting in asked.values():
                waiting.cancel()
            raise
        else:
            for key, waiting in asked.items():
                if not waiting.done():
                    waiting.set_result(found.get(key))

    def _give_up(
        self, task: "asyncio.Task[None]", asked: dict[Key, asyncio.Future[Found | None]]
    ) -> None:
        self._under_way.discard(task)
        self._given_up.add(task)  # a task that nobody holds may vanish
        _tell(asked, DatabaseUnavailable(f"no answer within {self._most_seconds:g} s"))
        self._see_to_who_waits()


def _tell(asked: Mapping[Key, "asyncio.Future[Found | None]"], error: Exception) -> None:
    for waiting in asked.values():
        if not waiting.done():
            waiting.set_exception(error)

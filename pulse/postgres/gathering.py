"""Many callers' reads in one query: those that come while others are under way share the next."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from typing import Final, Generic, TypeVar

Key = TypeVar("Key")
Found = TypeVar("Found")

_MOST_UNDER_WAY: Final = 3
_MOST_KEYS: Final = 200


class Gatherer(Generic[Key, Found]):
    """Reads by key. A few queries are under way at most, so that one that hangs holds up few.

    Who asks alone waits for nobody; nobody shares a query that had begun before he asked, so each
    reads what was committed by then.
    """

    def __init__(self, fetch: Callable[[list[Key]], Awaitable[Mapping[Key, Found]]]) -> None:
        self._fetch = fetch
        self._waiting: dict[Key, asyncio.Future[Found | None]] = {}
        self._under_way: set[asyncio.Task[None]] = set()

    async def get(self, key: Key) -> Found | None:
        """What the query finds for that key.

        Raises: what the query raises, to everybody who shares it.
        """
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = asyncio.get_running_loop().create_future()
            if len(self._under_way) < _MOST_UNDER_WAY:
                task = asyncio.create_task(self._fetch_while_asked())
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(waiting)  # who hangs up must not take it from the others

    async def _fetch_while_asked(self) -> None:
        while self._waiting:
            asked = dict(islice(self._waiting.items(), _MOST_KEYS))
            for key in asked:
                del self._waiting[key]
            try:
                found = await self._fetch(list(asked))
            except Exception as error:  # noqa: BLE001 - it is theirs who asked
                for waiting in asked.values():
                    waiting.set_exception(error)
            except asyncio.CancelledError:  # the process ends: let nobody wait for it
                for waiting in asked.values():
                    waiting.cancel()
                raise
            else:
                for key, waiting in asked.items():
                    waiting.set_result(found.get(key))

"""The batch loader: concurrent reads by key share queries."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from typing import Final, Generic, TypeVar

from pulse.postgres.database import DatabaseUnavailable

Key = TypeVar("Key")
Found = TypeVar("Found")

_MAX_QUERIES: Final = 3
_MAX_KEYS: Final = 200
_MAX_SECONDS: Final = 3.0


class BatchLoader(Generic[Key, Found]):
    """Runs at most three queries at once; keys that arrive meanwhile share the next query.

    A lone read runs at once. A call never joins a query that has already started, so it sees
    everything committed before the call. A query that takes longer than `max_seconds` is abandoned:
    its callers get an error, and another query may start in its place.
    """

    def __init__(
        self,
        fetch: Callable[[list[Key]], Awaitable[Mapping[Key, Found]]],
        *,
        max_seconds: float = _MAX_SECONDS,
    ) -> None:
        self._fetch = fetch
        self._max_seconds = max_seconds
        self._waiting: dict[Key, asyncio.Future[Found | None]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._abandoned: set[asyncio.Task[None]] = set()

    async def get(self, key: Key) -> Found | None:
        """The query's result for this key, or None. An error of the query reaches all its callers.

        Raises:
            DatabaseUnavailable: no answer in time.
        """
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = asyncio.get_running_loop().create_future()
            self._run_next()
        return await asyncio.shield(waiting)  # cancelling one caller must not cancel the others

    def _run_next(self) -> None:
        if self._waiting and len(self._running) < _MAX_QUERIES:
            self._running.add(asyncio.create_task(self._run()))

    async def _run(self) -> None:
        """Run queries until no key is left or this task is abandoned."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101 - tells the type checker that this is a task
        try:
            while self._waiting and task in self._running:
                batch = dict(islice(self._waiting.items(), _MAX_KEYS))
                for key in batch:
                    del self._waiting[key]
                deadline = loop.call_later(self._max_seconds, self._abandon, task, batch)
                try:
                    found = await self._fetch(list(batch))
                except Exception as error:  # noqa: BLE001 - raised to the callers
                    _fail(batch, error)
                except asyncio.CancelledError:  # the process stops: no caller may wait forever
                    for waiting in batch.values():
                        waiting.cancel()
                    raise
                else:
                    for key, waiting in batch.items():
                        if not waiting.done():
                            waiting.set_result(found.get(key))
                finally:
                    deadline.cancel()
        finally:
            self._running.discard(task)
            self._abandoned.discard(task)

    def _abandon(
        self, task: "asyncio.Task[None]", batch: dict[Key, asyncio.Future[Found | None]]
    ) -> None:
        self._running.discard(task)
        self._abandoned.add(task)  # a task without a reference may be garbage-collected
        _fail(batch, DatabaseUnavailable(f"no answer within {self._max_seconds:g} s"))
        self._run_next()


def _fail(batch: Mapping[Key, "asyncio.Future[Found | None]"], error: Exception) -> None:
    for waiting in batch.values():
        if not waiting.done():
            waiting.set_exception(error)

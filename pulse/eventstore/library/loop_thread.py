"""An event loop in a thread of its own, for callers that know no asyncio."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from eventsourcing.persistence import OperationalError

T = TypeVar("T")
_JOIN_SECONDS = 10.0


class LoopThread:
    """Runs coroutines for any thread until it is stopped; what still runs then is cancelled."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock = threading.RLock()  # a finalizer may come upon its own thread in `submit`
        self._stopped = False
        self._thread = threading.Thread(
            target=_run_loop, args=(self._loop,), name=name, daemon=True
        )
        self._thread.start()

    @property
    def is_current(self) -> bool:
        """Whether the caller is this thread, which must not wait for itself."""
        return threading.current_thread() is self._thread

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        """Start it, and return at once.

        Raises:
            OperationalError: the thread is stopped.
        """
        with self._lock:
            if self._stopped:
                coroutine.close()
                raise OperationalError("the recorder's factory is closed")
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it and return what it returns.

        Raises:
            OperationalError: the thread is stopped, or was before the coroutine had ended.
        """
        try:
            return self.submit(coroutine).result()
        except CancelledError:
            raise OperationalError("the recorder's factory was closed meanwhile") from None

    def stop(self) -> None:
        """End it, and wait for that unless the caller is the thread itself. Twice is once."""
        with self._lock:
            if not self._stopped:
                self._stopped = True
                self._loop.call_soon_threadsafe(self._loop.stop)
        if not self.is_current:
            self._thread.join(_JOIN_SECONDS)


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        with contextlib.suppress(Exception):
            loop.run_until_complete(_all_ended(loop))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


async def _all_ended(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop) - {asyncio.current_task()}
    if tasks:
        await asyncio.wait(tasks, timeout=_JOIN_SECONDS / 2)

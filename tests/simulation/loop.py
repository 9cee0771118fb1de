"""An event loop for one simulated process: its tasks run in asyncio's order, on virtual time.

Asyncio's own tasks, futures, timeouts and gathers run on it unchanged. Ready callbacks take no
virtual time. Every external event (an answer, a timer, a crash) comes from the world.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Timers(Protocol):
    """The source of virtual time."""

    now: float

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Schedule an action at a virtual time."""


class Handle:
    """A scheduled callback, like `asyncio.Handle`."""

    __slots__ = ("args", "callback", "was_cancelled", "when_")

    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...], when: float) -> None:
        self.callback = callback
        self.args = args
        self.when_ = when
        self.was_cancelled = False

    def cancel(self) -> None:
        self.was_cancelled = True

    def cancelled(self) -> bool:
        return self.was_cancelled

    def when(self) -> float:
        return self.when_


class ProcessLoop:
    """One process's event loop, with the part of asyncio's interface that Pulse and asyncio use.

    While frozen it queues external events; once ended it drops them. Its clock runs at `rate`.
    Callbacks share one context.
    """

    def __init__(self, timers: Timers, rate: float = 1.0) -> None:
        self._timers = timers
        self._rate = rate
        self._as_asyncio: Any = self
        self._ready: deque[Handle] = deque()
        self._tasks: list[asyncio.Task[Any]] = []
        self._deferred: list[Callable[[], None]] = []
        self.frozen = False
        self.ended = False

    def deliver(self, action: Callable[[], None]) -> None:
        """Deliver an external event and run until the process waits again."""
        if self.ended:
            return
        if self.frozen:
            self._deferred.append(action)
            return
        action()
        self.run_ready()

    def run_ready(self) -> None:
        """Run all ready callbacks."""
        ready = self._ready
        asyncio._set_running_loop(self._as_asyncio)
        try:
            while ready:
                handle = ready.popleft()
                if not handle.was_cancelled:
                    handle.callback(*handle.args)
        finally:
            asyncio._set_running_loop(None)

    def thaw(self) -> None:
        """Resume, and deliver the events that arrived while frozen."""
        self.frozen = False
        deferred, self._deferred = self._deferred, []
        for action in deferred:
            self.deliver(action)

    def end(self) -> None:
        """Kill the process: no more of its code has an effect, not even in a `finally` block."""
        self.ended = True
        self._ready.clear()
        self._deferred.clear()
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                coroutine: Any = task.get_coro()
                coroutine.close()
        self._ready.clear()

    def time(self) -> float:
        return self._timers.now * self._rate

    def call_soon(
        self,
        callback: Callable[..., Any],
        *args: Any,
        context: Context | None = None,  # noqa: ARG002
    ) -> Handle:
        handle = Handle(callback, args, 0.0)
        if not self.ended:
            self._ready.append(handle)
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: Context | None = None,  # noqa: ARG002
    ) -> Handle:
        handle = Handle(callback, args, when)
        if not self.ended:
            self._timers.at(when / self._rate, lambda: self._fire(handle))
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[..., Any],
        *args: Any,
        context: Context | None = None,  # noqa: ARG002
    ) -> Handle:
        return self.call_at(self.time() + delay, callback, *args)

    def _fire(self, handle: Handle) -> None:
        if not handle.was_cancelled:
            self.deliver(lambda: self._ready.append(handle))

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self._as_asyncio)

    def create_task(
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,  # noqa: ARG002
    ) -> "asyncio.Task[T]":
        task = asyncio.Task(coro, loop=self._as_asyncio, name=name)
        self._tasks.append(task)
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return asyncio._get_running_loop() is self._as_asyncio

    def is_closed(self) -> bool:
        return self.ended

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Ignored: asyncio reports unretrieved exceptions at garbage collection, a random time."""

"""An event loop for one simulated process: its tasks run in asyncio's order, on virtual time.

Asyncio's own tasks, futures, timeouts and gathers run on it unchanged. What is ready runs at once
and in no time; all that comes from outside (an answer, a timer, a crash) comes from the world.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Timers(Protocol):
    """Where virtual time comes from."""

    now: float

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Do this then."""


class Ready:
    """A callback that waits for its turn or its time."""

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
    """One process's loop: of asyncio's interface what Pulse's code and asyncio's own need.

    Frozen, it keeps what comes; ended, it forgets everything. Its clock runs at a rate of its
    own. Callbacks share one context.
    """

    def __init__(self, timers: Timers, rate: float = 1.0) -> None:
        self._timers = timers
        self._rate = rate
        self._as_asyncio: Any = self
        self._ready: deque[Ready] = deque()
        self._tasks: list[asyncio.Task[Any]] = []
        self._kept: list[Callable[[], None]] = []
        self.frozen = False
        self.ended = False

    def deliver(self, act: Callable[[], None]) -> None:
        """Let something from outside happen to the process, and run until it waits again."""
        if self.ended:
            return
        if self.frozen:
            self._kept.append(act)
            return
        act()
        self.run_ready()

    def run_ready(self) -> None:
        """Run whatever can run."""
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
        """Go on, late: everything that came meanwhile comes now."""
        self.frozen = False
        kept, self._kept = self._kept, []
        for act in kept:
            self.deliver(act)

    def end(self) -> None:
        """The process is killed: no line of it runs any more, no `finally` has any effect."""
        self.ended = True
        self._ready.clear()
        self._kept.clear()
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
    ) -> Ready:
        handle = Ready(callback, args, 0.0)
        if not self.ended:
            self._ready.append(handle)
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: Context | None = None,  # noqa: ARG002
    ) -> Ready:
        handle = Ready(callback, args, when)
        if not self.ended:
            self._timers.at(when / self._rate, lambda: self._fire(handle))
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[..., Any],
        *args: Any,
        context: Context | None = None,  # noqa: ARG002
    ) -> Ready:
        return self.call_at(self.time() + delay, callback, *args)

    def _fire(self, handle: Ready) -> None:
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
        """Asyncio reports what nobody looked at when the collector finds it: no moment of ours."""

"""Runs a process's background services: one restart policy, one order of start and stop."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import structlog

from pulse.loop import FaultLog, Loop
from pulse.retry import Retry, RetryPolicy

_log = structlog.get_logger(__name__)
_RESTART: Final = RetryPolicy(first_seconds=1.0, max_seconds=10.0)
_STOP_SECONDS: Final = 10.0
_CANCEL_SECONDS: Final = 2.0


class BackgroundServices:
    """An async context that runs services, and on exit stops them in reverse order of their start.

    A service is a coroutine that runs until it is stopped. It is restarted if it crashes.
    """

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._faults = FaultLog()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, traceback)

    def start(
        self,
        name: str,
        run: Callable[[], Coroutine[Any, Any, None]],
        *,
        request_stop: Callable[[], None] | None = None,
    ) -> None:
        """Start a service.

        To stop it, `request_stop` is called and the service has 10 s to return; then, or without
        `request_stop`, it is cancelled.
        """
        task = asyncio.create_task(_keep_running(name, run), name=name)
        self._stack.push_async_callback(_stop, task, request_stop)

    def start_loop(self, loop: Loop) -> None:
        """Start a loop; on stop its current step finishes."""
        self.start(loop.name, partial(loop.run, self._faults), request_stop=loop.stop)

    def on_stop(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Call `callback` on exit, after the services started later have stopped."""
        self._stack.push_async_callback(callback)


async def _keep_running(name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    retry = Retry(_RESTART)
    while True:
        try:
            await run()
        except Exception:  # noqa: BLE001 - a bug is logged; the service is restarted
            _log.exception("service.crashed", service=name)
            await retry.wait()
        else:
            return


async def _stop(task: "asyncio.Task[None]", request_stop: Callable[[], None] | None) -> None:
    if request_stop is not None:
        request_stop()
        await asyncio.wait({task}, timeout=_STOP_SECONDS)
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_CANCEL_SECONDS)

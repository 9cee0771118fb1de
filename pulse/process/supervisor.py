"""What runs in the background of a process: one restart policy, one order of start and stop."""

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


class Supervisor:
    """Runs services while it is entered; on leaving it stops them in reverse order of starting.

    A service is a coroutine that runs for as long as the process. If it crashes it is restarted.
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

        `request_stop` asks it to end by itself, within 10 s; without it, stopping is cancelling.
        """
        task = asyncio.create_task(_keep_running(name, run), name=name)
        self._stack.push_async_callback(_stop, task, request_stop)

    def start_loop(self, loop: Loop) -> None:
        """Start a loop; stopping lets its step finish."""
        self.start(loop.name, partial(loop.run, self._faults), request_stop=loop.stop)

    def on_stop(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Call this on leaving, after what is started later has stopped."""
        self._stack.push_async_callback(callback)


async def _keep_running(name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    retry = Retry(_RESTART)
    while True:
        try:
            await run()
        except Exception:  # noqa: BLE001 - a bug is logged; the process goes on
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

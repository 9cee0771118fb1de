"""What runs in the background of a process, started and stopped in order."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, Final

import structlog

from pulse.retry import Retry, RetryPolicy

_log = structlog.get_logger(__name__)
_STOP_SECONDS: Final = 10.0
_CANCEL_SECONDS: Final = 2.0
_RESTART: Final = RetryPolicy(first_seconds=1.0, max_seconds=10.0)


class Service:
    """A coroutine that runs for as long as the process, run again should it ever crash.

    `request_stop` asks it to end by itself, within 10 s; without it, stopping is cancelling.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[], Coroutine[Any, Any, None]],
        *,
        request_stop: Callable[[], None] | None = None,
    ) -> None:
        self._name = name
        self._run = run
        self._request_stop = request_stop

    def start(self, stack: AsyncExitStack) -> None:
        """Start it; it is stopped when the stack is left, in the reverse order of starting."""
        task = asyncio.create_task(self._keep_up(), name=self._name)
        stack.push_async_callback(self._stop, task)

    async def _stop(self, task: "asyncio.Task[None]") -> None:
        if self._request_stop is not None:
            self._request_stop()
            await asyncio.wait({task}, timeout=_STOP_SECONDS)
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_CANCEL_SECONDS)

    async def _keep_up(self) -> None:
        retry = Retry(_RESTART)
        while True:
            try:
                await self._run()
            except Exception:  # noqa: BLE001 - a bug is logged; the process goes on
                _log.exception("service.crashed", service=self._name)
                await retry.wait()
            else:
                return

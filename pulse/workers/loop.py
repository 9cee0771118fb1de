"""The loop every background task runs in: one step after another, woken by a hint, saved by a poll.

A step is `run_once` of something that can be tested without a timer. What it returns tells how
long to wait before the next one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

import structlog

from pulse.errors import PulseError
from pulse.postgres import WakeUp

_log = structlog.get_logger(__name__)
_FIRST_RETRY_SECONDS: Final = 0.1
_MOST_RETRY_SECONDS: Final = 2.0

Result = TypeVar("Result")

NOW: Final = 0.0
"""Pause for when there is more to do."""


class Loop(Generic[Result]):
    """Runs a step until told to stop.

    `pause_after` says how many seconds to rest after a result: NOW, or a while, or None for "until
    the wake-up or the poll", then for `least_seconds` at least: what comes meanwhile goes together
    in the next step. `stop` lets the step under way finish.
    """

    def __init__(  # noqa: PLR0913 - a loop's whole rhythm, set once
        self,
        name: str,
        run_once: Callable[[], Awaitable[Result]],
        pause_after: Callable[[Result], float | None],
        *,
        wake_up: WakeUp | None = None,
        poll_seconds: float,
        least_seconds: float = 0.0,
    ) -> None:
        self.name = name
        self._run_once = run_once
        self._pause_after = pause_after
        self._wake_up = wake_up or WakeUp()
        self._poll_seconds = poll_seconds
        self._least_seconds = least_seconds
        self._stopping = False
        self._fault: str | None = None

    async def run(self) -> None:
        """Run until `stop`; an error is logged and the next step comes after a growing pause."""
        retry_seconds = _FIRST_RETRY_SECONDS
        while not self._stopping:
            try:
                pause = self._pause_after(await self._run_once())
            except PulseError as error:
                self._report(str(error))
            except Exception:  # noqa: BLE001 - a bug is logged; the loop is the last to fall
                _log.exception("loop.step_crashed", loop=self.name)
            else:
                self._report(None)
                retry_seconds = _FIRST_RETRY_SECONDS
                await self._rest(pause)
                continue
            await self._rest(retry_seconds)
            retry_seconds = min(2 * retry_seconds, _MOST_RETRY_SECONDS)

    def stop(self) -> None:
        """Take no further step."""
        self._stopping = True
        self._wake_up.set()

    def _report(self, fault: str | None) -> None:
        """Say what changed, not every time that it has not: a fault may last for hours."""
        if fault == self._fault:
            return
        if fault is None:
            _log.info("loop.recovered", loop=self.name)
        else:
            _log.warning("loop.step_failed", loop=self.name, error=fault)
        self._fault = fault

    async def _rest(self, pause: float | None) -> None:
        if self._stopping:
            return
        if pause is not None:
            await asyncio.sleep(pause)
            return
        await asyncio.sleep(self._least_seconds)
        await self._wake_up.wait(self._poll_seconds)

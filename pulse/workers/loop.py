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
from pulse.retry import Retry, RetryPolicy

_log = structlog.get_logger(__name__)
_RETRY: Final = RetryPolicy(first_seconds=0.2, max_seconds=2.0)

MAX_FAILING_SECONDS: Final = 10.0
"""A loop whose every step has failed for longer does not do its work."""

MAX_STEP_SECONDS: Final = 30.0
"""A step that takes longer hangs: every statement and every append in it is bounded by less."""

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
        self._failing_since: float | None = None
        self._failure = ""
        self._step_began_at: float | None = None

    @property
    def fault(self) -> str | None:
        """Why this loop does no work: a step hangs, or all have failed for long. None otherwise."""
        now = asyncio.get_running_loop().time()
        if self._step_began_at is not None and now - self._step_began_at > MAX_STEP_SECONDS:
            return f"the {self.name} loop has hung for {now - self._step_began_at:.0f} s"
        if self._failing_since is not None and now - self._failing_since > MAX_FAILING_SECONDS:
            failing_seconds = now - self._failing_since
            return f"the {self.name} loop has failed for {failing_seconds:.0f} s: {self._failure}"
        return None

    async def run(self) -> None:
        """Run until `stop`; an error is logged and the next step comes after a growing pause."""
        retry = Retry(_RETRY)
        while not self._stopping:
            try:
                pause = self._pause_after(await self._step())
            except PulseError as error:
                self._report(str(error))
                self._note_failure(str(error))
            except Exception as error:  # noqa: BLE001 - a bug is logged; the loop goes on
                _log.exception("loop.step_crashed", loop=self.name)
                self._note_failure(f"crashed with {type(error).__name__}, see the log")
            else:
                self._report(None)
                self._failing_since = None
                retry.reset()
                await self._rest(pause)
                continue
            if not self._stopping:
                await retry.wait()

    def stop(self) -> None:
        """Take no further step."""
        self._stopping = True
        self._wake_up.set()

    async def _step(self) -> Result:
        self._step_began_at = asyncio.get_running_loop().time()
        try:
            return await self._run_once()
        finally:
            self._step_began_at = None

    def _note_failure(self, failure: str) -> None:
        self._failure = failure
        if self._failing_since is None:
            self._failing_since = asyncio.get_running_loop().time()

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

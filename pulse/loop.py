"""The loop of every background job: one step after another, woken by a hint, saved by a poll."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import structlog

from pulse.errors import PulseError
from pulse.retry import Retry, RetryPolicy

_log = structlog.get_logger(__name__)
_RETRY: Final = RetryPolicy(first_seconds=0.2, max_seconds=2.0)

MAX_FAILING_SECONDS: Final = 10.0
"""A loop whose every step has failed for longer does not do its work."""

MAX_STEP_SECONDS: Final = 30.0
"""A step that takes longer hangs: every statement and every append in it is bounded by less."""

NOW: Final = 0.0
"""Pause for when there is more to do."""

Result = TypeVar("Result")


class WakeUp:
    """A hint within the process: any number of `set` calls wake one `wait`."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Wake the waiter, or let its next wait return at once."""
        self._event.set()

    async def wait(self, timeout_seconds: float | None) -> bool:
        """Wait until set or for that long (None: without end); True if it was set."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._event.wait()
        woken = self._event.is_set()
        self._event.clear()
        return woken


class Job(ABC, Generic[Result]):
    """The work of a loop: a bounded step that can be tested without a timer, and its pacing.

    Between steps with nothing more to do the loop pauses for `least_pause_seconds` (what comes
    meanwhile goes together in the next step), then until the wake-up, or for `poll_seconds`.
    """

    name: str
    poll_seconds: float
    least_pause_seconds: float = 0.0

    @abstractmethod
    async def run_once(self) -> Result:
        """Do the next step."""

    def pause_after(self, result: Result) -> float | None:  # noqa: ARG002 - for jobs that need it
        """Seconds to pause after this result: NOW, a while, or None for the usual pause."""
        return None


class FaultLog:
    """Logs a fault when the first of several loops meets it, and when the last is over it.

    So a fault of the database is one line, not one for each loop and step.
    """

    def __init__(self) -> None:
        self._fault_of: dict[str, str] = {}

    def report(self, loop: str, fault: str | None) -> None:
        """What the last step of this loop failed with, None if it did not."""
        before = self._fault_of.pop(loop, None)
        known = fault in self._fault_of.values()
        if before not in (None, fault, *self._fault_of.values()):
            _log.info("loop.recovered", loop=loop, error=before)
        if fault is not None:
            self._fault_of[loop] = fault
        if fault not in (None, before):
            log = _log.debug if known else _log.warning
            log("loop.step_failed", loop=loop, error=fault)


class Loop:
    """Runs a job until told to stop; `stop` lets the step under way finish.

    `require` is called before each step, which fails where it raises. `poll_seconds` takes the
    place of the job's own.
    """

    def __init__(
        self,
        job: Job[Any],
        *,
        wake_up: WakeUp | None = None,
        poll_seconds: float | None = None,
        require: Callable[[], None] | None = None,
    ) -> None:
        self.name = job.name
        self._job = job
        self._wake_up = wake_up or WakeUp()
        self._poll_seconds = job.poll_seconds if poll_seconds is None else poll_seconds
        self._require = require
        self._stopping = False
        self._failure = ""
        self._failing_since: float | None = None
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

    async def run(self, faults: FaultLog | None = None) -> None:
        """Run until `stop`; an error is reported and the next step comes after a growing pause."""
        retry, faults = Retry(_RETRY), faults or FaultLog()
        while not self._stopping:
            try:
                pause = self._job.pause_after(await self._step())
            except PulseError as error:
                faults.report(self.name, str(error))
                self._note_failure(str(error))
            except Exception as error:  # noqa: BLE001 - a bug is logged; the loop goes on
                _log.exception("loop.step_crashed", loop=self.name)
                self._note_failure(f"crashed with {type(error).__name__}, see the log")
            else:
                faults.report(self.name, None)
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

    async def _step(self) -> Any:  # noqa: ANN401 - the job's own result goes back to the job
        if self._require is not None:
            self._require()
        self._step_began_at = asyncio.get_running_loop().time()
        try:
            return await self._job.run_once()
        finally:
            self._step_began_at = None

    def _note_failure(self, failure: str) -> None:
        self._failure = failure
        if self._failing_since is None:
            self._failing_since = asyncio.get_running_loop().time()

    async def _rest(self, pause: float | None) -> None:
        if self._stopping:
            return
        if pause is not None:
            await asyncio.sleep(pause)
            return
        await asyncio.sleep(self._job.least_pause_seconds)
        await self._wake_up.wait(self._poll_seconds)

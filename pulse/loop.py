"""The loop that runs each background job in steps: woken by a hint, or after the poll interval."""

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
"""A loop whose steps have all failed for longer is reported as faulty."""

MAX_STEP_SECONDS: Final = 30.0
"""A step that takes longer is reported as hung.

Every statement and append has a lower limit, except a commit that waits for a synchronous standby.
"""

NOW: Final = 0.0
"""The pause after a step that leaves more to do."""

Result = TypeVar("Result")


class WakeUp:
    """A wake-up hint within the process. Several `set` calls wake one `wait`."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Wake the waiter, or let its next wait return at once."""
        self._event.set()

    async def wait(self, timeout_seconds: float | None) -> bool:
        """Wait until set or until the timeout (None: no timeout); True if it was set."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._event.wait()
        woken = self._event.is_set()
        self._event.clear()
        return woken


class Job(ABC, Generic[Result]):
    """The work of a loop: a bounded step that can be tested without a timer, and its pauses.

    After a step that leaves nothing to do the loop pauses for `min_pause_seconds`, so that the next
    step handles all work that arrives in the pause. Then it waits for the wake-up, at most
    `poll_seconds`.
    """

    name: str
    poll_seconds: float
    min_pause_seconds: float = 0.0

    @abstractmethod
    async def run_once(self) -> Result:
        """Do the next step."""

    def pause_after(self, result: Result) -> float | None:  # noqa: ARG002 - for jobs that need it
        """Seconds to pause after this result. NOW: no pause. None: the usual pause."""
        return None

    def poll_after(self, result: Result) -> float:  # noqa: ARG002 - for jobs that need it
        """Maximum seconds to wait for the wake-up, in the usual pause after this result."""
        return self.poll_seconds


class FaultLog:
    """Logs a fault once when the first loop has it, and once when the last loop has recovered.

    A database outage is one line, not one line for each loop and step.
    """

    def __init__(self) -> None:
        self._fault_of: dict[str, str] = {}

    def report(self, loop: str, fault: str | None) -> None:
        """Record the error of this loop's last step; None if the step succeeded."""
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
    """Runs a job until `stop`, which lets the current step finish.

    `require` is called before each step; if it raises, the step fails. `poll_seconds` overrides the
    job's own.
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
        if poll_seconds is not None:
            job.poll_seconds = poll_seconds
        self._require = require
        self._stopping = False
        self._failure = ""
        self._failing_since: float | None = None
        self._step_began_at: float | None = None
        self._clock: Callable[[], float] | None = None

    @property
    def fault(self) -> str | None:
        """Why this loop makes no progress: a step hangs, or all steps fail. None otherwise.

        Another thread may read it.
        """
        if self._clock is None:
            return None
        now, began_at, failing_since = self._clock(), self._step_began_at, self._failing_since
        if began_at is not None and now - began_at > MAX_STEP_SECONDS:
            return f"the {self.name} loop has hung for {now - began_at:.0f} s"
        if failing_since is not None and now - failing_since > MAX_FAILING_SECONDS:
            return (
                f"the {self.name} loop has failed for {now - failing_since:.0f} s: {self._failure}"
            )
        return None

    async def run(self, faults: FaultLog | None = None) -> None:
        """Run until `stop`. A failed step is reported, and retried with backoff."""
        self._clock = asyncio.get_running_loop().time
        retry, faults = Retry(_RETRY), faults or FaultLog()
        while not self._stopping:
            try:
                result = await self._step()
                pause = self._job.pause_after(result)
            except PulseError as error:
                faults.report(self.name, str(error))
                self._note_failure(str(error))
            except Exception as error:  # noqa: BLE001 - a bug is logged; the loop continues
                _log.exception("loop.step_crashed", loop=self.name)
                self._note_failure(f"crashed with {type(error).__name__}, see the log")
            else:
                faults.report(self.name, None)
                self._failing_since = None
                retry.reset()
                await self._pause(pause, self._job.poll_after(result))
                continue
            if not self._stopping:
                await retry.wait()

    def stop(self) -> None:
        """Start no further step."""
        self._stopping = True
        self._wake_up.set()

    async def _step(self) -> Any:  # noqa: ANN401 - the result type is the job's own
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

    async def _pause(self, seconds: float | None, poll_seconds: float) -> None:
        if self._stopping:
            return
        if seconds is not None:
            await asyncio.sleep(seconds)
            return
        await asyncio.sleep(self._job.min_pause_seconds)
        await self._wake_up.wait(poll_seconds)

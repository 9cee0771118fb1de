"""One run: the processes, callers and faults of a seed, on one server and virtual time."""

import asyncio
import heapq
from collections.abc import Callable, Iterator
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any

from pulse.domain import OrderRefused
from tests.simulation.callers import (
    HALTS,
    CancellingCaller,
    HaltingCaller,
    LogReader,
    PlacingCaller,
    ResumingCaller,
    RetryingCaller,
    requested,
)
from tests.simulation.invariants import Invariants
from tests.simulation.memory.server import EPOCH, Result
from tests.simulation.process import Process
from tests.simulation.process_faults import PROCESS_FAULTS
from tests.simulation.profile import CALL_FAULTS, QUIET_SECONDS, Faults, draw
from tests.simulation.sealing import AnchorFiles
from tests.simulation.violation import InvariantViolated, require

if TYPE_CHECKING:
    from tests.simulation.planted import Planted

_NO_FAULTS = Faults()
_MAX_FAULT_DELAY_SECONDS = 0.004


class World:
    """One simulated run. The seed alone determines everything that happens in it."""

    def __init__(self, seed: int, planted: "Planted", trace: list[str] | None = None) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.profile = draw(self.random)
        self.faults = self.profile.faults
        self._fault_probability = sum(getattr(self.faults, kind) for kind in CALL_FAULTS)
        self.planted = planted
        self.unreachable_until = 0.0
        self.blocked: list[Callable[[], None]] = []
        self.trace = trace
        self.steps = 0
        self.errors: list[str] = []
        self._actions: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._calls: dict[str, int] = {}
        self._acknowledged: dict[str, str] = {}
        self.invariants = Invariants(self)
        self.anchor_files = AnchorFiles()
        self.server = planted.server(self)
        self.server.on_transaction_end = self._unblock
        self.statements = planted.statements(self)
        self.processes = [self._new_process(n) for n in range(self.profile.processes)]
        self.callers: list[PlacingCaller] = list(self._callers())
        self.cancelling: list[CancellingCaller] = []
        self.halting: list[HaltingCaller | ResumingCaller] = list(self._halting_callers())
        self.reader = LogReader(self)

    def run(self) -> None:
        """Run until all work is done.

        Raises:
            InvariantViolated: an invariant does not hold.
        """
        for process in self.processes:
            process.start()
        for timed in self.faults.timed_faults:
            self.at(timed.at, lambda kind=timed.kind: self._start_fault(kind))  # type: ignore[misc]
        self.at(self.profile.fault_seconds, self._end_faults)
        try:
            self._run_until_done()
            self._check_end()
        finally:
            for process in self.processes:
                process.loop.end()

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Schedule an action at a virtual time."""
        self._number += 1
        heapq.heappush(self._actions, (when, self._number, action))

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Schedule an action `seconds` from now."""
        self.at(self.now + seconds, action)

    def note(self, who: str, what: str, how: str) -> None:
        """Add a line to the trace, if there is one."""
        if self.trace is not None:
            self.trace.append(f"{self.now:10.6f}  {who:<10} {what:<28} {how}")

    def describe(self, answer: Any, error: Exception | None) -> str:
        """Describe the server's answer for the trace."""
        if self.trace is None:
            return ""
        if error is not None:
            return f"fails: {type(error).__name__}: {error}"
        results = answer if isinstance(answer, list) else []
        counts = [r.rowcount for r in results if isinstance(r, Result)]
        return f"succeeds: {'+'.join(map(str, counts)) or 'ok'} rows"

    def any_process(self) -> Process | None:
        """A random process that runs and is not frozen."""
        alive = [p for p in self.processes if not (p.loop.ended or p.loop.frozen)]
        return self.random.choice(alive) if alive else None

    def wake_others(self, process: Process, what: str) -> None:
        """Notify the other processes; each notification may be lost."""
        for other in self.processes:
            if other is process or self.random.random() < self.faults.lost_wake_up:
                continue
            wake_up = getattr(other, what)
            delay = self.random.random() * 0.01
            self.after(delay, lambda o=other, w=wake_up: o.loop.deliver(w.set))  # type: ignore[misc]

    def acknowledge(self, key: str, caller: str) -> None:
        """Record which caller created an order, and check that it is the only one."""
        first = self._acknowledged.setdefault(key, caller)
        require(first == caller, f"{caller} and {first} both created {key}")

    def service_ended(self, task: "asyncio.Task[None]") -> None:
        """A service must not end with an exception."""
        if not task.cancelled() and task.exception() is not None:
            raise InvariantViolated(
                f"a service crashed: {task.exception()!r}"
            ) from task.exception()

    def _callers(self) -> Any:
        starts_in = self.profile.starts_in
        start_at = EPOCH + timedelta(seconds=starts_in) if starts_in else None
        for number in range(self.profile.orders):
            for copy in range(self.profile.callers):
                other_data = copy > 0 and self.random.random() < 0.3
                order = requested(
                    f"key{number}",
                    100 + number + (7 if other_data else 0),
                    minutes=self.profile.minutes + number,
                    splits=self.profile.splits,
                    start_at=start_at,
                )
                at = self.random.random() * min(self.profile.fault_seconds, 0.4) * 0.5
                yield PlacingCaller(self, f"caller{number}.{copy}", order, at)

    def _all_callers(self) -> Iterator[RetryingCaller]:
        yield from self.callers
        yield from self.cancelling
        yield from self.halting

    def _halting_callers(self) -> Iterator[HaltingCaller]:
        profile, random = self.profile, self.random
        seconds = profile.minute_seconds * profile.minutes if profile.whole_life else 0.4
        for number in range(profile.halting_callers):
            at = random.random() * seconds
            yield HaltingCaller(self, f"halt{number}", random.choice(HALTS), at)

    def _new_process(self, number: int, life: int = 1) -> Process:
        has_workers = number < self.profile.workers or self.random.random() < 0.3
        return Process(self, f"p{number}.{life}", has_workers=has_workers)

    def fault_of_call(self, process: Process, name: str) -> str:
        """The fault of this call, or "" for none. A planned crash or freeze is scheduled here."""
        if self.now < self.unreachable_until:
            return "lost_request"
        nth = self._calls[name] = self._calls.get(name, 0) + 1
        for planned in self.faults.planned_faults:
            if planned.nth == nth and planned.call == name:
                return self._inject(planned.kind, process)
        chance = self.random.random() - self._fault_probability
        if chance >= 0:
            return ""
        for kind in CALL_FAULTS:
            chance += getattr(self.faults, kind)
            if chance >= 0:
                return kind
        return ""

    def _start_fault(self, kind: str) -> None:
        process = self.any_process()
        if process is not None:
            PROCESS_FAULTS[kind](self, process)

    def _inject(self, kind: str, process: Process) -> str:
        if kind not in PROCESS_FAULTS:
            return kind
        action = PROCESS_FAULTS[kind]
        self.after(self.random.random() * _MAX_FAULT_DELAY_SECONDS, lambda: action(self, process))
        return ""

    def _run_until_done(self) -> None:
        deadline = self.profile.fault_seconds + QUIET_SECONDS
        acts = self._actions
        while acts:
            self.now, _, action = heapq.heappop(acts)
            self.steps += 1
            action()
            require(not self.errors, f"logged as an error: {self.errors}")
            if self._is_done():
                return
            if self.now > deadline:
                raise InvariantViolated(f"work left {QUIET_SECONDS:g} s after the last fault")

    def _is_done(self) -> bool:
        """Every caller has an answer, every order an outcome; all events are projected and read.

        Every slice that is due is settled, and the log is sealed.
        """
        log = self.server.log
        return (
            self.invariants.open_orders == 0
            and self.server.tables.position == log.end
            and self.reader.after == log.end
            and all(caller.answer is not None for caller in self._all_callers())
            and self.invariants.is_settled(whole=self.profile.whole_life)
            and (not self.profile.seals or self.invariants.seal.is_complete())
        )

    def _check_end(self) -> None:
        self.invariants.check_end()
        stored = sorted(position for position, _ in self.invariants.log)
        require(self.reader.seen == stored, f"a reader saw {self.reader.seen} of {stored}")
        keys = {order.spec.order_unique_key for order in self.invariants.orders.values()}
        requested = {caller.order.order_unique_key for caller in self.callers}
        refused = {
            caller.order.order_unique_key
            for caller in self.callers
            if isinstance(caller.answer, OrderRefused)  # its start_at had passed
        }
        are_right = requested - refused <= keys <= requested
        require(are_right, f"{requested} were requested, {refused} refused, {keys} are stored")

    def replace(self, process: Process) -> None:
        """Start a new process in its place."""
        number, life = process.name[1:].split(".")
        replacement = self._new_process(int(number), int(life) + 1)
        self.processes[self.processes.index(process)] = replacement
        self.note(replacement.name, "START", "")
        replacement.start()

    def _unblock(self) -> None:
        waiting, self.blocked = self.blocked, []
        for action in waiting:
            self.after(0.0, action)

    def _end_faults(self) -> None:
        self.note("world", "END", "no more faults")
        self.faults = _NO_FAULTS
        self._fault_probability = 0.0
        self.unreachable_until = 0.0

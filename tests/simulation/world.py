"""One schedule: a seed's processes, callers and faults on one server, on virtual time."""

import asyncio
import heapq
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from tests.simulation.callers import LogReader, PersistentCaller, requested
from tests.simulation.invariants import InvariantBroken, Invariants, require
from tests.simulation.memory.server import Result
from tests.simulation.outages import OUTAGES
from tests.simulation.process import Process
from tests.simulation.profile import FATES, QUIET_SECONDS, Faults, draw

if TYPE_CHECKING:
    from tests.simulation.planted import Planted

_CALM = Faults()
_STRIKE_SECONDS = 0.004


class World:
    """All that happens in one schedule, and nothing else: the same seed is the same schedule."""

    def __init__(self, seed: int, planted: "Planted", trace: list[str] | None = None) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.profile = draw(self.random)
        self.faults = self.profile.faults
        self._likely = sum(getattr(self.faults, fate) for fate in FATES)
        self.planted = planted
        self.blocked: list[Callable[[], None]] = []
        self.trace = trace
        self.steps = 0
        self.errors: list[str] = []
        self._acts: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._calls: dict[str, int] = {}
        self._acknowledged: dict[str, str] = {}
        self.invariants = Invariants(self)
        self.server = planted.server(self)
        self.server.on_transaction_end = self._unblock
        self.statements = planted.statements(self)
        self.processes = [self._new_process(n) for n in range(self.profile.processes)]
        self.callers = list(self._callers())
        self.reader = LogReader(self)

    def run(self) -> None:
        """Run to rest.

        Raises:
            InvariantBroken: an invariant does not hold.
        """
        for process in self.processes:
            process.start()
        self.at(self.profile.fault_seconds, self._end_faults)
        try:
            self._run_until_rest()
            self._check_end()
        finally:
            for process in self.processes:
                process.loop.end()

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Do this then."""
        self._number += 1
        heapq.heappush(self._acts, (when, self._number, act))

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Do this so many seconds from now."""
        self.at(self.now + seconds, act)

    def note(self, who: str, what: str, how: str) -> None:
        """A line of the trace, if somebody wants one."""
        if self.trace is not None:
            self.trace.append(f"{self.now:10.6f}  {who:<10} {what:<28} {how}")

    def told(self, answer: Any, error: Exception | None) -> str:
        """What the server answered, for the trace."""
        if self.trace is None:
            return ""
        if error is not None:
            return f"fails: {type(error).__name__}: {error}"
        results = answer if isinstance(answer, list) else []
        counts = [r.rowcount for r in results if isinstance(r, Result)]
        return f"is carried out: {'+'.join(map(str, counts)) or 'ok'} rows"

    def any_process(self) -> Process | None:
        """One that is alive and not frozen."""
        alive = [p for p in self.processes if not (p.loop.ended or p.loop.frozen)]
        return self.random.choice(alive) if alive else None

    def wake_others(self, process: Process, what: str) -> None:
        """A hint over the network, which may be lost."""
        for other in self.processes:
            if other is process or self.random.random() < self.faults.lost_wake_up:
                continue
            wake_up = getattr(other, what)
            delay = self.random.random() * 0.01
            self.after(delay, lambda o=other, w=wake_up: o.loop.deliver(w.set))  # type: ignore[misc]

    def acknowledge(self, key: str, caller: str) -> None:
        """Only one caller may have brought an order about."""
        first = self._acknowledged.setdefault(key, caller)
        require(first == caller, f"{caller} and {first} both created {key}")

    def service_ended(self, task: "asyncio.Task[None]") -> None:
        """No service ends by itself."""
        if not task.cancelled() and task.exception() is not None:
            raise InvariantBroken(f"a service crashed: {task.exception()!r}") from task.exception()

    def _callers(self) -> Any:
        for number in range(self.profile.orders):
            for copy in range(self.profile.callers):
                other_data = copy > 0 and self.random.random() < 0.3
                order = requested(
                    f"key{number}", 100 + number + (7 if other_data else 0), minutes=1 + number
                )
                at = self.random.random() * self.profile.fault_seconds * 0.5
                yield PersistentCaller(self, f"caller{number}.{copy}", order, at)

    def _new_process(self, number: int, life: int = 1) -> Process:
        works = number == 0 or self.random.random() < 0.8
        return Process(self, f"p{number}.{life}", works=works)

    def fate_of_call(self, process: Process, name: str) -> str:
        """What becomes of this call, "" if nothing; a crash or a freeze may strike meanwhile."""
        nth = self._calls[name] = self._calls.get(name, 0) + 1
        for strike in self.faults.strikes:
            if strike.nth == nth and strike.await_ == name:
                return self._strike(strike.kind, process)
        chance = self.random.random() - self._likely
        if chance >= 0:
            return ""
        for fate in FATES:
            chance += getattr(self.faults, fate)
            if chance >= 0:
                return fate
        return ""

    def _strike(self, kind: str, process: Process) -> str:
        if kind in FATES:
            return kind
        act = OUTAGES[kind]
        self.after(self.random.random() * _STRIKE_SECONDS, lambda: act(self, process))
        return ""

    def _run_until_rest(self) -> None:
        deadline = self.profile.fault_seconds + QUIET_SECONDS
        acts = self._acts
        while acts:
            self.now, _, act = heapq.heappop(acts)
            self.steps += 1
            act()
            require(not self.errors, f"logged as an error: {self.errors}")
            if self._at_rest():
                return
            if self.now > deadline:
                raise InvariantBroken(f"not at rest {QUIET_SECONDS:g} s after the last fault")

    def _at_rest(self) -> bool:
        """Everybody was answered, every order has its outcome, all is projected and read."""
        log = self.server.log
        return (
            self.invariants.unsettled == 0
            and self.server.tables.position == log.end
            and self.reader.after == log.end
            and all(caller.told is not None for caller in self.callers)
        )

    def _check_end(self) -> None:
        self.invariants.check_end()
        stored = sorted(position for position, _ in self.invariants.log)
        require(self.reader.seen == stored, f"a reader saw {self.reader.seen} of {stored}")
        keys = {order.spec.order_unique_key for order in self.invariants.orders.values()}
        asked = {caller.order.order_unique_key for caller in self.callers}
        require(keys == asked, f"{asked} were asked for, {keys} are stored")

    def replace(self, process: Process) -> None:
        """Start its next life in its place."""
        number, life = process.name[1:].split(".")
        anew = self._new_process(int(number), int(life) + 1)
        self.processes[self.processes.index(process)] = anew
        self.note(anew.name, "START", "")
        anew.start()

    def _unblock(self) -> None:
        waiting, self.blocked = self.blocked, []
        for act in waiting:
            self.after(0.0, act)

    def _end_faults(self) -> None:
        self.note("world", "CALM", "no more faults")
        self.faults = _CALM
        self._likely = 0.0
